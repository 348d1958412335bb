"""Results as finished rows: the same numbers as whole, nothing of the picture or of the network's mode left behind."""

import threading
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from sr_engine.errors import EngineError
from sr_engine.infer.passes import Passes, Work
from sr_engine.infer.rows import in_step
from sr_engine.infer.tiling import Place
from sr_engine.infer.upscaler import Upscaler
from tests.infer.test_upscaler import Nearest, random, repeat


@pytest.mark.parametrize("model", ["tiny-x2", "bicubic"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(75, 60), (75, 60, 1), (75, 60, 2), (75, 60, 3), (75, 60, 4), (1, 1, 4)])
@pytest.mark.parametrize("size", [None, (131, 97)])
def test_rows_are_those_of_the_whole_result(model, shape, dtype, size):
    picture = random(shape, dtype)
    up = Upscaler(model, scale=2, tile=64, precision="fp32", device="cpu")
    whole = up(picture, size=size)
    bands = list(up.rows(picture, size=size))
    assert len(bands) > 1 or shape[0] == 1
    assert {band.dtype for band in bands} == {picture.dtype}
    assert np.array_equal(np.concatenate(bands), whole)
    assert whole.shape[:2] == (size or (2 * shape[0], 2 * shape[1]))


def test_bands_are_few_rows_however_tall_the_tiles(monkeypatch):
    monkeypatch.setattr("sr_engine.infer.rows._STRIP", 3 * 80 * 7)
    bands = list(Upscaler(Nearest(), precision="fp32").rows(random((50, 40, 3), np.uint8)))
    assert {len(band) for band in bands[:-1]} == {7}
    assert sum(map(len, bands)) == 100


def test_bands_belong_to_whoever_asked():
    picture = random((90, 40, 3), np.uint8)
    bands = []
    for band in Upscaler(Nearest(receptive_field=0), tile=32, precision="fp32").rows(picture):
        bands.append(band.copy())
        band[:] = 0
    assert np.array_equal(np.concatenate(bands), repeat(picture))


def test_what_is_wrong_is_said_before_the_first_band():
    up = Upscaler(Nearest())
    with pytest.raises(TypeError, match="picture must"):
        up.rows(np.zeros((4, 4, 3), np.int64))
    with pytest.raises(ValueError, match="size must"):
        up.rows(np.zeros((4, 4, 3), np.uint8), size=(0, 4))


@pytest.mark.parametrize("channels", [3, 4])
def test_tiles_are_counted(channels):
    seen: list[tuple[int, int]] = []
    up = Upscaler(Nearest(receptive_field=0), tile=32, precision="fp32")
    up(random((70, 40, channels), np.uint8), on_tile=lambda *count: seen.append(count))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_tiles_are_counted_on_after_running_out_of_memory():
    net, seen = Nearest(receptive_field=0), []

    def forward(x: Tensor) -> Tensor:
        if len(net.seen) == 2 and max(x.shape[-2:]) > 40:
            raise MemoryError
        return Nearest.forward(net, x)

    net.forward = forward
    picture = random((150, 150, 3), np.uint8)
    out = Upscaler(net, tile=80, precision="fp32")(picture, on_tile=lambda *count: seen.append(count))
    assert np.array_equal(out, repeat(picture))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[0][1] == 4
    assert seen[-1][0] == seen[-1][1] > 4


@pytest.mark.parametrize("after", [1, 2])
def test_running_out_between_tiles_goes_on_where_it_stopped(after, monkeypatch, caplog):
    """Memory for joining tiles fails as well: finished rows are not made again, and those below have their context."""
    calls = 0
    real = torch.Tensor.lerp_

    def lerp_(self, *args):
        nonlocal calls
        calls += 1
        if calls == after:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return real(self, *args)

    monkeypatch.setattr(torch.Tensor, "lerp_", lerp_)
    x = torch.rand(1, 3, 420, 70)
    whole = Upscaler("tiny-x2", precision="fp32", tile="off", device="cpu")(x)
    up = Upscaler("tiny-x2", precision="fp32", tile=200, device="cpu")
    assert (up(x) - whole).abs().max() < 1e-5
    assert "out of memory on cpu: going on with tiles of" in caplog.text


def test_in_step_cuts_bands_alike():
    def bands(*heights: int):
        return iter(torch.arange(30.0).view(1, 1, 30, 1).split(heights, -2))

    pairs = list(in_step(bands(10, 20), bands(3, 12, 15)))
    assert [a.shape[-2] for a, _ in pairs] == [3, 7, 5, 15]
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.cat([a for a, _ in pairs], -2).flatten().tolist() == list(range(30))


@pytest.mark.parametrize("end", ["close", "drop", "interrupt"])
def test_stopping_early_leaves_the_network_as_it_was(end):
    net = Nearest(receptive_field=0).train()
    net.frozen = torch.nn.BatchNorm2d(3).eval()
    up = Upscaler(net, tile=32, precision="fp32")
    rows = up.rows(random((200, 40, 4), np.uint8))
    next(rows)
    assert net.training, "between bands the network is whoever owns it's"
    assert torch.is_grad_enabled()
    if end == "interrupt":

        def forward(x: Tensor) -> Tensor:
            assert not net.training
            raise KeyboardInterrupt

        net.forward = forward
        with pytest.raises(KeyboardInterrupt):
            list(rows)
        del net.forward
    elif end == "close":
        rows.close()
    del rows
    assert net.training
    assert not net.frozen.training, "what was in evaluation mode stays so"
    picture = random((50, 40, 3), np.uint8)
    assert np.array_equal(up(picture), repeat(picture))


def test_threads_share_an_upscaler():
    up = Upscaler("tiny-x2", tile=64, precision="fp32", device="cpu", tta=True)
    pictures = [random((90 + 10 * i, 70, 3 + i % 2), np.uint8) for i in range(4)]
    alone = [up(picture) for picture in pictures]
    found: list = [None] * 4

    def work(i: int) -> None:
        found[i] = up(pictures[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(alone, found, strict=True))


def test_nan_in_a_late_tile_is_an_error_after_good_rows():
    net = Nearest(receptive_field=0)
    rows = Upscaler(net, tile=32, precision="fp32").rows(random((200, 30, 3), np.uint8))
    assert len(list(islice(rows, 2))) == 2
    net.gain.data.fill_(torch.nan)
    with pytest.raises(EngineError, match="gives NaN"):
        list(rows)


def test_passes_hold_rows_of_tiles_alone(monkeypatch):
    """Where many columns would wait for their neighbours below, tiles are less high than wide."""
    monkeypatch.setattr("sr_engine.infer.passes.waiting_rows", lambda *_: 40)
    seen: list[tuple[int, ...]] = []
    real = Passes._tile

    def tile(self: Passes, work: Work, x: Tensor, place: Place) -> Tensor:
        seen.append(tuple(x.shape[-2:]))
        return real(self, work, x, place)

    monkeypatch.setattr(Passes, "_tile", tile)
    picture = random((150, 150, 3), np.uint8)
    assert np.array_equal(Upscaler(Nearest(receptive_field=0), tile=96, precision="fp32")(picture), repeat(picture))
    assert max(height for height, _ in seen) <= 40 < max(width for _, width in seen)
