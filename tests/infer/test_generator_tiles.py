"""Our own networks in tiles: the size multiple and receptive field they declare are true."""

import pytest
import torch
from torch import nn

from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.generator import Generator
from sr_engine.models.presets import Preset


def awake(preset: Preset, **arguments: bool) -> Generator:
    """A generator whose parts that start at zero take part."""
    torch.manual_seed(0)
    net = Generator(scale=2, preset=preset, **arguments)  # pyright: ignore[reportArgumentType]
    for parameter in net.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.02)
    return net.eval().fold()


@pytest.mark.parametrize(
    ("preset", "aware", "tolerance"),
    [
        ("resampler", True, 1e-5),
        ("nano", True, 1e-5),
        ("nano", False, 1e-5),
        ("tiny", True, 1e-5),
        ("small", True, 1e-3),
    ],
)
def test_tiled_equals_untiled(preset, aware, tolerance):
    net, x = awake(preset, steer=aware, film=aware), torch.rand(1, 3, 140, 40)
    whole = Upscaler(net, tile="off", precision="fp32")(x)
    tiled = Upscaler(net, tile=128, precision="fp32")(x)
    assert (whole - tiled).abs().max() < tolerance


@torch.no_grad()
def test_the_pictures_above_hold_more_than_the_upsampler():
    net, x = awake("nano"), torch.rand(1, 3, 32, 32)
    with_body = net(x)
    for parameter in net.tail.parameters():
        nn.init.zeros_(parameter)
    assert (with_body - net(x)).abs().mean() > 1e-3
