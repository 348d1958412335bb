"""`accelerate` on whole OmniSR networks."""

from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import public
from tests.zoo.networks import check_network

omnisr = public("spandrel.architectures.OmniSR.__arch.OmniSR")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning", "ignore::DeprecationWarning")


def make(**changes: Any) -> Any:
    return omnisr.OmniSR(**{"num_feat": 20, "block_num": 1, "res_num": 2, "up_scale": 2, "window_size": 8, **changes})


def excite(network: Any) -> None:
    with torch.no_grad():
        for module in network.modules():
            if hasattr(module, "rel_pos_bias"):
                module.rel_pos_bias.weight.normal_(0, 1.5)


@pytest.mark.parametrize("changes", [{}, {"pe": False, "window_size": 7}])
def test_omnisr(changes):
    check_network(make(**changes), 2, [(24, 24), (24, 40), (19, 25), (17, 20)], excite=excite)


def test_another_bias_index_is_left_alone():
    network = make()
    attn = network.residual_layer[1].residual_layer[0].layer[8].fn
    attn.rel_pos_indices = attn.rel_pos_indices.t().contiguous()
    _, report = accelerate(network)
    assert [layer.name for layer in report.left] == ["residual_layer.1.residual_layer.0"]
    assert report.left[0].reason == "its bias index follows another rule"
