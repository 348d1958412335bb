"""Self-ensemble: the mean over eight turns turns with the picture, whole and in tiles."""

import numpy as np
import pytest
import torch

from sr_engine.infer.ensemble import ALL_TURNS, Region
from sr_engine.infer.upscaler import Upscaler
from tests.infer.test_generator_tiles import awake
from tests.infer.test_routing import routed, uneven
from tests.infer.test_tiling import ConvNet
from tests.infer.test_upscaler import Nearest, random, repeat


def test_there_are_eight_turns_and_each_has_its_inverse():
    x = torch.arange(6).view(1, 1, 2, 3)
    turned = [turn(x) for turn in ALL_TURNS]
    assert len({(t.shape, tuple(t.flatten().tolist())) for t in turned}) == 8
    assert all(torch.equal(turn.back(t), x) for turn, t in zip(ALL_TURNS, turned, strict=True))


@pytest.mark.parametrize("turn", ALL_TURNS)
@pytest.mark.parametrize("multiple", [1, 4])
def test_a_region_is_found_in_the_turned_picture(turn, multiple):
    x = torch.arange(21 * 30).view(1, 1, 21, 30)
    region = turn.needed(Region(4, 8, 12, 20), (21, 30), multiple)
    assert region.bottom - 12 < multiple
    top, left = turn.place(region, (21, 30))
    assert top % multiple == left % multiple == 0
    height, width = turn(region.of(x)).shape[-2:]
    assert torch.equal(turn(region.of(x)), turn(x)[..., top : top + height, left : left + width])


def test_sixteen_bits_turn_too():
    x = torch.from_numpy(random((1, 1, 3, 5), np.uint16))
    for turn in ALL_TURNS:
        assert np.array_equal(turn.back(turn(x)).numpy(), x.numpy())


def test_it_is_the_mean_over_all_turns():
    net, x = ConvNet(), torch.rand(2, 3, 17, 12)
    expected = torch.stack([turn.back(net(turn(x))) for turn in ALL_TURNS]).mean(0).clamp(0, 1)
    assert (Upscaler(net, tta=True, precision="fp32")(x) - expected).abs().max() < 1e-6
    assert (Upscaler(net, precision="fp32")(x) - expected).abs().max() > 1e-3, "the test could not notice"


NETWORKS = {
    "conv": lambda: ConvNet(),
    "tiny": lambda: awake("tiny"),
    "steered": lambda: awake("resampler"),
    "attention": lambda: routed(share=1.0),
    "topk": lambda: routed(share=0.5),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(23, 38), (1, 7)])
def test_turning_before_is_turning_after(network, size, channels):
    picture = random((*size, channels), np.float32)
    up = Upscaler(NETWORKS[network](), tta=True, precision="fp32", tile="off")
    straight = up(picture)
    np.testing.assert_allclose(np.rot90(straight), up(np.rot90(picture)), atol=1e-5)
    np.testing.assert_allclose(straight[::-1], up(picture[::-1]), atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_tiled_equals_untiled(network):
    """Also where the picture's sides are no multiples of the windows, which lie otherwise in a flipped picture."""
    net, x = NETWORKS[network](), uneven(1, 3, 151, 133)
    whole = Upscaler(net, tta=True, tile="off", precision="fp32")(x)
    tiled = Upscaler(net, tta=True, tile=96, precision="fp32")(x)
    assert (whole - tiled).abs().max() < 2e-5
    assert (whole - Upscaler(net, tile="off", precision="fp32")(x)).abs().max() > 1e-4, "the test could not notice"


def test_all_depths_come_back():
    for dtype in (np.uint8, np.uint16):
        picture = random((9, 14, 4), dtype)
        picture[..., 3] = np.iinfo(dtype).max
        assert np.array_equal(Upscaler(Nearest(), tta=True, precision="fp32")(picture), repeat(picture))


def test_the_network_runs_eight_times_and_classical_upsamplers_once():
    net = Nearest()
    Upscaler(net, tta=True)(np.zeros((4, 5, 3), np.uint8))
    assert sorted(tuple(x.shape[-2:]) for x in net.seen) == [(4, 5)] * 4 + [(5, 4)] * 4
    assert len(Upscaler("bicubic", scale=2, tta=True).passes.turns) == 1


def test_memory_counts_the_sum():
    x = torch.rand(1, 3, 300, 280)
    plain, mean = Upscaler(ConvNet(), precision="fp32"), Upscaler(ConvNet(), tta=True, precision="fp32")
    plain(x)
    mean(x)
    assert (mean.passes.bytes_per_pixel or 0) >= (plain.passes.bytes_per_pixel or 0) > 0
