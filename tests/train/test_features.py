"""Which layers a network has, and their features as maps, whatever form the network gives them."""

import pytest
import torch
from torch import Tensor, nn

from sr_engine.errors import ConfigError
from sr_engine.models.generator import Generator
from sr_engine.train.features import Taps, blocks


class Forms(nn.Module):
    """A layer for each form of features of a 6x4 picture with 5 channels, one that is not called, one of no form."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 1)
        self.map, self.tokens, self.last = nn.Identity(), nn.Identity(), nn.Identity()
        self.both, self.idle, self.flat = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.map(self.first(x))
        self.tokens(y.flatten(2).transpose(1, 2))
        self.last(y.permute(0, 2, 3, 1))
        self.both((y, None))
        self.flat(y.flatten(1))
        return y


@pytest.mark.parametrize("name", ["map", "tokens", "last", "both"])
def test_every_form_becomes_a_map(name):
    net, x = Forms(), torch.rand(2, 3, 6, 4)
    taps = Taps(net, [name, "first"], "key")
    taps.attach()
    y = net(x)
    assert all(torch.equal(feature, y) for feature in taps.maps(x))


@pytest.mark.parametrize(("name", "found"), [("idle", "gives no tensor in a pass"), ("flat", r"gives \(1, 180\)")])
def test_what_is_no_map_is_named(name, found):
    with pytest.raises(ConfigError, match=f"key: layer {name} {found} for a picture"):
        Taps(Forms(), [name], "key").channels(6, torch.device("cpu"))


def test_counting_channels_leaves_no_trace():
    net = Forms()
    net.map.eval()
    modes = [module.training for module in net.modules()]
    taps = Taps(net, ["map", "tokens"], "key")
    assert taps.channels(4, torch.device("cpu")) == [5, 5]
    assert [module.training for module in net.modules()] == modes
    net(torch.rand(1, 3, 6, 4))
    with pytest.raises(ConfigError, match="gives no tensor"):
        taps.maps(torch.rand(1, 3, 6, 4))


def test_blocks_are_counted_from_both_ends():
    net = Generator(scale=2, preset="small", width=12, stages=3)
    assert blocks(net) == ["body.0", "body.1", "body.2"]
    assert Taps(net, [0, -1, "body.1.units.0"], "key").names == ["body.0", "body.2", "body.1.units.0"]
    assert blocks(Forms()) == []
    for number in (3, -4):
        with pytest.raises(ConfigError, match=rf"key: there is no layer {number}; known are 0: body.0, 1: body.1, "):
            Taps(net, [number], "key")
