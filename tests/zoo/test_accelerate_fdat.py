"""`accelerate` on whole FDAT networks."""

from typing import Any

import pytest
import torch
from torch import nn

from sr_engine.dropin import accelerate
from tests.zoo.modules import public
from tests.zoo.networks import check_network

fdat = public("spandrel.architectures.FDAT.__arch.fdat")


def make(**changes: Any) -> Any:
    arguments = {"scale": 2, "embed_dim": 20, "num_groups": 1, "depth_per_group": 1, "num_heads": 2, "window_size": 8}
    return fdat.FDAT(**{**arguments, "upsampler_type": "pixelshuffledirect", **changes})


def excite(network: Any) -> None:
    """Dense biases and temperatures that show a wrong place."""
    with torch.no_grad():
        for module in network.modules():
            if hasattr(module, "ws"):
                module.bias.normal_(0, 1.5)
            elif hasattr(module, "temp"):
                module.temp.normal_(5, 1)


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_fdat(qkv_bias):
    network = make()
    if qkv_bias:
        for layer in [module for module in network.modules() if hasattr(module, "nh")]:
            layer.qkv = nn.Linear(20, 60)
    check_network(network, 2, [(16, 16), (24, 16), (13, 19), (7, 9)], excite=excite)


class Transposed(fdat.FastSpatialWindowAttention):
    """A fork whose bias lies the other way round."""

    def forward(self, x, H, W):
        twin = fdat.FastSpatialWindowAttention(self.dim, self.ws, self.nh)
        twin.load_state_dict({**self.state_dict(), "bias": self.bias.transpose(1, 2)})
        return twin(x, H, W)


def test_a_transposed_bias_is_left_alone():
    network = make()
    network.groups[0].blocks[0].attn.__class__ = Transposed
    _, report = accelerate(network)
    assert [layer.name for layer in report.left] == ["groups.0.blocks.0.attn"]
    assert "differs from the original's" in (report.left[0].reason or "")
