"""Any size: which size a text names, and rows resized as they come against the whole in float64."""

import numpy as np
import pytest
import torch

from sr_engine.errors import EngineError
from sr_engine.infer.memory import halving
from sr_engine.infer.resize import ResizedRows, target_size
from sr_engine.infer.upscaler import Upscaler
from sr_kernels import functional as K
from sr_kernels.magic_resample import reference
from tests.infer.test_upscaler import random


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        ("2.5", (150, 250)),
        ("2", (120, 200)),
        (".333", (20, 33)),
        ("0.001", (1, 1)),
        ("3840x2160", (2160, 3600)),
        ("300x2160", (180, 300)),
        ("7x900", (4, 7)),
        ("3840x", (2304, 3840)),
        ("x2160", (2160, 3600)),
        ("X2160", (2160, 3600)),
        (" 50\u00d710 ", (10, 17)),
        ("1x1", (1, 1)),
        ("3840x2160!", (2160, 3840)),
    ],
)
def test_sizes_are_read(geometry, expected):
    assert target_size(60, 100, geometry=geometry) == expected


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (3333, 5001), (1, 7919), (61, 17)])
def test_a_size_to_fit_is_met_and_never_exceeded(height, width):
    for box in [(1, 1), (17, 3000), (1999, 13), (4321, 1234)]:
        found = target_size(height, width, geometry=f"{box[1]}x{box[0]}")
        assert all(1 <= side <= most for side, most in zip(found, box, strict=True))
        assert any(side == most for side, most in zip(found, box, strict=True))


@pytest.mark.parametrize("scale", [0.1, 0.5, 1 / 3, 1.0, 1.5, 2.5, 3.7, 4])
def test_a_scale_is_rounded_as_the_kernel_does(scale):
    for height, width in [(5, 7), (33, 50), (1, 1)]:
        expected = tuple(K.magic_resample(torch.zeros(1, 1, height, width), scale=scale).shape[2:])
        assert target_size(height, width, scale=scale) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "scale or a size, one of the two"),
        ({"scale": 2.0, "geometry": "3x"}, "one of the two"),
        ({"scale": 0.0}, "scale 0.0 is impossible"),
        ({"scale": float("inf")}, "scale inf is impossible"),
        ({"scale": float("nan")}, "scale nan is impossible"),
        ({"scale": 1e9}, "would make"),
        ({"geometry": "big"}, r"size 'big' cannot be read: expected a factor such as 2\.5, or 3840x2160"),
        ({"geometry": "x"}, "cannot be read"),
        ({"geometry": "x!"}, "cannot be read"),
        ({"geometry": "30x!"}, "cannot be read"),
        ({"geometry": "-2"}, "cannot be read"),
        ({"geometry": "2x3x4"}, "cannot be read"),
        ({"geometry": "0x40"}, "size '0x40' is impossible"),
        ({"geometry": "99999999999x"}, "is impossible"),
        ({"geometry": "0"}, "scale 0 is impossible"),
    ],
)
def test_what_names_no_size_is_one_clear_sentence(arguments, message):
    with pytest.raises(EngineError, match=message):
        target_size(60, 100, **arguments)


def cut(x: torch.Tensor, rows: int):
    return iter(x.split(rows, -2))


@pytest.mark.parametrize("kernel", ["mks2021", "bicubic"])
@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize(
    ("source", "size"),
    [
        ((40, 50), (100, 125)),
        ((40, 50), (97, 31)),
        ((97, 50), (40, 50)),
        ((300, 20), (7, 3)),
        ((61, 33), (61, 40)),
        ((1, 1), (70, 9)),
        ((3, 300), (200, 1)),
        ((200, 9), (1, 9)),
        ((33, 44), (33, 44)),
    ],
)
def test_rows_are_those_of_the_whole_in_float64(source, size, rows, kernel):
    torch.manual_seed(0)
    x = torch.rand(2, 3, *source)
    expected = reference.resample(x.double(), size, kernel).clamp(0, 1)
    found = torch.cat(list(ResizedRows(source, size, kernel=kernel)(cut(x, rows))), -2)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 2e-6


def test_strips_are_bounded_and_less_where_memory_runs_out(monkeypatch):
    monkeypatch.setattr("sr_engine.infer.resize._STRIP", 30 * 20)
    x, heights = torch.rand(1, 1, 200, 20), []
    real = K.magic_resample

    def hungry(strip, **arguments):
        heights.append(strip.shape[-2])
        if len(heights) > 2 and strip.shape[-2] > 4:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"
            )
        return real(strip, **arguments)

    monkeypatch.setattr(K, "magic_resample", hungry)
    found = torch.cat(list(ResizedRows((200, 20), (333, 30))(iter([x]))), -2)
    monkeypatch.undo()
    assert (found - K.magic_resample(x, size=(333, 30)).clamp(0, 1)).abs().max() < 1e-6
    assert heights[:5] == [20, 20, 20, 10, 5]
    assert set(heights[5:]) == {2}


def test_a_row_that_never_fits_ends_in_one_sentence():
    def work(_: int) -> None:
        raise MemoryError

    with pytest.raises(EngineError, match="memory of cpu does not suffice for a row"):
        halving(8, work, torch.device("cpu"))


@pytest.mark.parametrize("size", [(110, 150), (31, 17), (77, 33), (40, 30)])
def test_the_network_comes_first_then_the_kernel(size):
    x = torch.rand(1, 3, 40, 30)
    up = Upscaler("tiny-x2", precision="fp32", device="cpu")
    expected = reference.resample(up(x).double(), size, "mks2021").clamp(0, 1)
    assert (up(x, size=size) - expected).abs().max() < 2e-6
    assert torch.equal(up(x, size=(80, 60)), up(x)), "its own size is not resized"


@pytest.mark.parametrize("name", ["bicubic", "mks2021"])
def test_classical_upsamplers_go_there_in_one_step(name):
    x = torch.rand(1, 3, 40, 30)
    out = Upscaler(name, scale=2, device="cpu")(x, size=(123, 45))
    assert (out - reference.resample(x.double(), (123, 45), name).clamp(0, 1)).abs().max() < 2e-6


def test_alpha_is_resized_once_from_what_it_was():
    picture = random((40, 30, 4), np.float32)
    out = Upscaler("tiny-x2", precision="fp32", device="cpu", linear=True)(picture, size=(123, 45))
    alpha = torch.from_numpy(picture[..., 3]).double()[None, None]
    assert np.abs(out[..., 3] - reference.resample(alpha, (123, 45), "mks2021").clamp(0, 1)[0, 0].numpy()).max() < 2e-6


@pytest.mark.parametrize("size", [(0, 3), (3, -1), (3,), (2.5, 3)])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match="size must be"):
        Upscaler("bicubic", scale=2)(np.zeros((4, 4), np.uint8), size=size)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(110, 150), (31, 17)])
def test_on_a_gpu_the_rows_are_the_same(size):
    x = torch.rand(1, 3, 64, 50)
    bands = list(ResizedRows((64, 50), size)(cut(x.cuda(), 7)))
    assert bands[0].is_cuda
    assert (torch.cat(bands, -2).cpu() - reference.resample(x.double(), size, "mks2021").clamp(0, 1)).abs().max() < 2e-6
