"""Pictures of every form through an upscaler, with small networks of known behaviour."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sr_engine.errors import EngineError
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.spec import ModelSpec


class Nearest(nn.Module):
    """Repeats every pixel; `gain` shows what reached it."""

    def __init__(self, scale: int = 2, **fields) -> None:
        super().__init__()
        self.spec = ModelSpec(**({"architecture": "nearest", "arguments": {}, "scale": scale} | fields))
        self.gain = nn.Parameter(torch.ones(()))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return F.interpolate(x * self.gain, scale_factor=self.spec.scale, mode="nearest")


def repeat(array: np.ndarray, scale: int = 2) -> np.ndarray:
    return array.repeat(scale, 0).repeat(scale, 1)


def random(shape, dtype) -> np.ndarray:
    generator = np.random.default_rng(0)
    if np.issubdtype(dtype, np.floating):
        return generator.random(shape).astype(dtype)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (1, 1, 3), (1, 1), (1, 9, 3)])
def test_numpy_pictures_keep_form_depth_and_values(shape, dtype):
    picture = random(shape, dtype)
    out = Upscaler(Nearest(), precision="fp32")(picture)
    assert out.dtype == picture.dtype
    assert out.shape == repeat(picture).shape
    np.testing.assert_allclose(
        out.astype(float), repeat(picture).astype(float), atol=1e-6 if out.dtype.kind == "f" else 0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("channels", [1, 3])
def test_tensors_keep_dtype_and_batch(channels, dtype):
    x = torch.rand(2, channels, 6, 5).to(dtype)
    out = Upscaler(Nearest(3), precision="fp32")(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out, F.interpolate(x.float(), scale_factor=3.0).to(dtype))


def test_views_with_negative_strides_are_pictures_too():
    picture = random((6, 5, 3), np.uint8)[::-1, :, ::-1]
    assert np.array_equal(Upscaler(Nearest(), precision="fp32")(picture), repeat(picture))


def test_tiled_is_the_same_as_untiled():
    picture = random((100, 75, 3), np.uint8)
    out = Upscaler(Nearest(receptive_field=0), tile=32, precision="fp32")(picture)
    assert np.array_equal(out, repeat(picture))


def test_grey_reaches_the_network_as_three_equal_channels():
    net = Nearest()
    Upscaler(net, precision="fp32")(np.array([[51]], np.uint8))
    assert net.seen[0].shape == (1, 3, 1, 1)
    torch.testing.assert_close(net.seen[0], torch.full((1, 3, 1, 1), 0.2))


def test_the_network_gets_its_own_value_range():
    net = Nearest(value_range=(-1.0, 1.0))
    out = Upscaler(net, precision="fp32")(np.array([[[0, 255, 51]]], np.uint8))
    torch.testing.assert_close(net.seen[0].flatten(), torch.tensor([-1.0, 1.0, -0.6]))
    assert out[0, 0].tolist() == [0, 255, 51]


def test_overshoot_is_clipped_not_wrapped():
    net = Nearest()
    net.gain.data.fill_(1.5)
    assert (Upscaler(net, precision="fp32")(np.full((2, 2, 3), 200, np.uint8)) == 255).all()


def test_nan_is_an_error_that_names_the_model():
    net = Nearest()
    net.gain.data.fill_(torch.nan)
    with pytest.raises(EngineError, match=r"model 'nearest' gives NaN .* precision fp32"):
        Upscaler(net)(np.zeros((2, 2, 3), np.uint8))


def test_a_network_in_training_goes_on_training():
    net = Nearest().train()
    Upscaler(net)(np.zeros((2, 2, 3), np.uint8))
    assert net.training
    assert net.gain.requires_grad
    net(torch.ones(1, 3, 2, 2)).sum().backward()
    assert net.gain.grad is not None


def test_no_dark_halo_around_what_stands_on_transparent_black():
    """A white disc on transparent black, through an upsampler whose kernel reaches across the edge."""
    y, x = np.mgrid[:24, :24]
    inside = (x - 11.5) ** 2 + (y - 11.5) ** 2 < 64
    picture = np.zeros((24, 24, 4), np.uint8)
    picture[inside] = 255
    out = Upscaler("bicubic", scale=4)(picture)
    assert out.shape == (96, 96, 4)
    assert (out[out[..., 3] > 0][:, :3] >= 254).all()
    assert out[48, 48, 3] == 255
    assert out[0, 0, 3] == 0
    halo = Upscaler("bicubic", scale=4)(np.ascontiguousarray(picture[..., :3]))
    assert (halo[out[..., 3] > 0] < 200).any(), "without the care for alpha this picture has a halo"


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opaque_alpha_changes_nothing(channels, dtype):
    picture = random((9, 8, channels), dtype)
    picture[..., -1] = np.iinfo(dtype).max
    out = Upscaler(Nearest(), precision="fp32")(picture)
    assert np.array_equal(out, repeat(picture))


def test_wholly_transparent_pictures_stay_so():
    out = Upscaler(Nearest())(np.zeros((5, 3, 4), np.uint8))
    assert (out[..., 3] == 0).all()


@pytest.mark.parametrize("name", ["bicubic", "mks2021"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_classical_upsamplers_keep_constants_and_size(name, scale):
    up = Upscaler(name, scale=scale)
    out = up(np.full((7, 5, 3), 77, np.uint8))
    assert out.shape == (7 * scale, 5 * scale, 3)
    assert (out == 77).all()
    assert (up.name, up.scale, up.spec.parameters) == (name, scale, 0)


@pytest.mark.parametrize("name", ["bicubic", "mks2021"])
def test_classical_upsamplers_tile_without_a_trace(name):
    x = torch.rand(1, 3, 80, 70)
    whole, tiled = Upscaler(name, scale=3, tile="off")(x), Upscaler(name, scale=3, tile=32)(x)
    assert (whole - tiled).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["bicubic", "mks2021"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_classical_upsamplers_are_pillows(name, scale):
    picture = random((20, 30), np.float32)
    method = Image.Resampling[name.upper()]
    expected = np.asarray(Image.fromarray(picture).resize((30 * scale, 20 * scale), method)).clip(0, 1)
    np.testing.assert_allclose(Upscaler(name, scale=scale)(picture), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("picture", "error"),
    [
        (np.zeros((4, 4, 5), np.uint8), ValueError),
        (np.zeros((4,), np.uint8), ValueError),
        (np.zeros((0, 4, 3), np.uint8), ValueError),
        (np.zeros((4, 4, 3), np.int64), TypeError),
        (torch.zeros(3, 4, 4), ValueError),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), ValueError),
        (torch.zeros(1, 3, 0, 4), ValueError),
    ],
)
def test_what_is_no_picture_is_refused(picture, error):
    with pytest.raises(error, match="picture must"):
        Upscaler(Nearest())(picture)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "bicubic"}, "say which with scale"),
        ({"model": "mks2021", "scale": 0}, "scale 0 is impossible"),
        ({"model": Nearest(2), "scale": 4}, "upscales by 2, not by 4"),
        ({"model": nn.Identity()}, "has no `spec`"),
        ({"model": Nearest(), "tile": 8}, "tile 8 cannot be used"),
        ({"model": Nearest(), "tile": "big"}, "tile big cannot be used"),
        ({"model": Nearest(), "precision": "fp16"}, "fp16 needs a CUDA device"),
        (
            {"model": Nearest(), "precision": "fp61"},
            r"'fp61' is unknown \(did you mean 'fp16'\?\): expected one of auto",
        ),
        ({"model": Nearest(), "precision": "int8"}, r"'int8' is not offered.*INT8 loses .* dB.*docs/precision\.md\.$"),
        ({"model": Nearest(), "precision": "INT8"}, "INT8 loses"),
        ({"model": Nearest(), "precision": "fp8"}, "FP8 loses"),
        ({"model": Nearest(), "precision": "Float8_E4M3fn"}, "FP8 loses"),
        ({"model": "mks2021", "scale": 2, "precision": "fp8"}, "FP8 loses"),
        ({"model": Nearest(), "device": "gpu"}, "device 'gpu' is unknown"),
    ],
)
def test_what_does_not_fit_is_one_clear_sentence(arguments, message):
    with pytest.raises(EngineError, match=message):
        Upscaler(**arguments)


class Hungry(Nearest):
    """Runs out of memory on tiles above a size, as a GPU does."""

    def forward(self, x: Tensor) -> Tensor:
        if max(x.shape[-2:]) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().forward(x)


def test_out_of_memory_halves_the_tile_and_goes_on(caplog):
    picture = random((150, 90, 3), np.uint8)
    net = Hungry(receptive_field=2)
    out = Upscaler(net, tile="off", precision="fp32")(picture)
    assert np.array_equal(out, repeat(picture))
    assert [r.message for r in caplog.records if "out of memory" in r.message] == [
        "out of memory on cpu: going on with tiles of 75 pixels",
        "out of memory on cpu: going on with tiles of 32 pixels",
    ]


def test_a_tile_that_never_fits_ends_in_one_sentence():
    net = Hungry()
    net.forward = lambda _: Hungry.forward(net, torch.zeros(1, 3, 64, 64))  # type: ignore[method-assign]
    with pytest.raises(EngineError, match=r"memory of cpu does not suffice for a tile of \d+ pixels"):
        Upscaler(net)(np.zeros((200, 200, 3), np.uint8))


def test_other_runtime_errors_are_not_taken_for_memory():
    net = Nearest()
    net.forward = lambda _: torch.zeros(2) @ torch.zeros(3)  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="size"):
        Upscaler(net)(np.zeros((2, 2, 3), np.uint8))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_on_a_gpu_the_picture_is_the_same(dtype):
    picture = random((300, 280, 3), dtype)
    assert np.array_equal(
        Upscaler(Nearest(receptive_field=0), device="cuda", precision="fp32")(picture), repeat(picture)
    )
