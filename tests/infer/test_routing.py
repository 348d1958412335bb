"""Attention for the hardest windows of a picture: the same choice whole and in tiles, whatever the picture's form."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sr_engine.errors import EngineError
from sr_engine.infer.routing import difficulty_in_bands
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.generator import Generator


def routed(share: float = 0.5, **arguments) -> Generator:
    """A small generator with every part awake, that attends to a share of its windows."""
    torch.manual_seed(0)
    layout = {"width": 8, "stages": 1, "units": 1, "kernel_size": 3, "kernel_channels": 4, "window": 4, "heads": 2}
    net = Generator(scale=2, preset="small", routing="topk", share=share, **{**layout, **arguments})
    for parameter in net.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.05)
    for stage in net.body:
        stage.gate.weight.data += 2.0  # pyright: ignore
        stage.attention.project.weight.data *= 4  # pyright: ignore
    return net.eval()


def uneven(*shape: int) -> Tensor:
    """Noise whose strength grows to the lower right, so that the choice of a tile differs from the picture's."""
    torch.manual_seed(1)
    height, width = shape[-2:]
    slope = torch.linspace(0, 1, height)[:, None] * torch.linspace(0, 1, width)
    return 0.5 + 0.5 * slope * (2 * torch.rand(shape) - 1)


def test_tiled_equals_untiled():
    net, x = routed(), uneven(2, 3, 150, 130)
    whole = Upscaler(net, tile="off", precision="fp32")(x)
    tiled = Upscaler(net, tile=72, precision="fp32")(x)
    assert (whole - tiled).abs().max() < 1e-5
    dense = Upscaler(net, tile="off", precision="fp32", attention_share=1)(x)
    alone = torch.cat([Upscaler(net, tile="off", precision="fp32")(part) for part in x.split(76, -2)], -2)
    for other in (dense, alone):
        assert (whole - other).abs().max() > 1e-3, "the test could not notice a wrong choice"


@pytest.mark.parametrize("shape", [(150, 130), (150, 130, 1), (150, 130, 4), (150, 130, 3)])
def test_every_form_of_picture(shape):
    picture = (255 * uneven(*shape[2:], *shape[:2]).numpy()).round().astype(np.uint8)
    picture = np.ascontiguousarray(np.moveaxis(picture, 0, -1)) if len(shape) == 3 else picture
    net = routed()
    whole = Upscaler(net, tile="off", precision="fp32")(picture).astype(int)
    tiled = Upscaler(net, tile=72, precision="fp32")(picture).astype(int)
    assert abs(whole - tiled).max() <= 1
    dense = Upscaler(net, attention_share=1, tile="off", precision="fp32")(picture).astype(int)
    assert abs(whole - dense).max() > 1


class Hungry(Generator):
    """Runs out of memory on tiles above a size, as a GPU does."""

    def forward(self, x: Tensor, **controls) -> Tensor:
        if max(x.shape[-2:]) > 80:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().forward(x, **controls)


@pytest.mark.parametrize(("tile", "height"), [("off", 150), (156, 250)])
def test_tiles_made_after_running_out_of_memory_keep_the_choice(tile, height):
    net, x = routed(), uneven(1, 3, height, 130)
    whole = Upscaler(net, tile="off", precision="fp32")(x)
    net.__class__ = Hungry
    assert (Upscaler(net, tile=tile, precision="fp32")(x) - whole).abs().max() < 1e-5


def test_memory_is_measured_on_a_corner_alone():
    net = routed()
    up = Upscaler(net, precision="fp32")
    x = uneven(1, 3, 300, 280)
    assert (up(x) - Upscaler(net, tile="off", precision="fp32")(x)).abs().max() < 1e-5
    again = Upscaler(net, precision="fp32")
    again(uneven(1, 3, 600, 280))
    assert up.passes.bytes_per_pixel == again.passes.bytes_per_pixel


@pytest.mark.parametrize("size", [(97, 41), (8, 5), (1, 1)])
@pytest.mark.parametrize("pixels", [1, 1000])
def test_difficulty_in_bands_is_that_of_the_whole(size, pixels):
    net, x = routed(), uneven(2, 3, *size)
    seen: list[int] = []

    def prepare(part: Tensor) -> Tensor:
        seen.append(part.shape[-2])
        return part

    torch.testing.assert_close(difficulty_in_bands(net, prepare, x, pixels=pixels), net.difficulty(x))
    assert len(seen) > 1 or size[0] < 97


def test_the_upscaler_decides_on_the_share():
    net, x = routed(), uneven(1, 3, 40, 40)
    own = Upscaler(net, precision="fp32")(x)
    assert torch.equal(Upscaler(net, precision="fp32", attention_share=0.5)(x), own)
    few = Upscaler(net, precision="fp32", attention_share=0.1)(x)
    assert (few - own).abs().max() > 1e-3
    assert (net.layout.routing, net.layout.share) == ("topk", 0.5), "the network is as it was"


def test_sharpness_is_the_same_in_tiles_and_none_at_one():
    net, x = routed(), uneven(1, 3, 150, 130)
    learned, same, sharp = (Upscaler(net, tile="off", precision="fp32", sharpness=s)(x) for s in (1.0, 1, 1.5))
    assert torch.equal(same, learned)
    assert (sharp - learned).abs().max() > 1e-2
    assert (Upscaler(net, tile=72, precision="fp32", sharpness=1.5)(x) - sharp).abs().max() < 1e-5


def test_more_sharpness_is_more_local_contrast():
    net, x = Generator(scale=2, preset="resampler"), 0.3 + 0.4 * torch.rand(1, 3, 40, 40)
    energies = []
    for sharpness in (0, 0.5, 1, 1.5, 2):
        out = Upscaler(net, sharpness=sharpness)(x)
        energies.append((out.diff(dim=-1).square().mean() + out.diff(dim=-2).square().mean()).item())
    assert all(low < 0.95 * high for low, high in pairwise(energies))


def test_alpha_is_not_sharpened():
    picture = np.random.default_rng(0).integers(1, 256, (12, 12, 4), np.uint8)
    plain, sharp = (Upscaler(routed(), sharpness=s, precision="fp32")(picture) for s in (1, 2))
    assert np.array_equal(plain[..., 3], sharp[..., 3])
    assert not np.array_equal(plain[..., :3], sharp[..., :3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sharpness": 2.5}, r"sharpness 2\.5 cannot be used: expected 0 to 2"),
        ({"sharpness": float("nan")}, "sharpness nan cannot be used"),
        ({"attention_share": 0.0}, "share must be above 0 and at most 1"),
        ({"model": Generator(scale=2, preset="nano"), "attention_share": 0.5}, "only a network with gated attention"),
        ({"model": "bicubic", "scale": 2, "sharpness": 1.5}, "'bicubic' has no control of sharpness"),
        ({"model": "mks2021", "scale": 2, "attention_share": 0.5}, "'mks2021' has no control of attention share"),
    ],
)
def test_controls_that_do_not_fit_are_one_clear_sentence(arguments, message):
    with pytest.raises(EngineError, match=message):
        Upscaler(**{"model": routed(), **arguments})


def test_neutral_controls_fit_every_model():
    Upscaler("bicubic", scale=2, sharpness=1.0, attention_share=1.0)
    Upscaler(Generator(scale=2, preset="nano"), attention_share=1)
