"""`accelerate` on whole SCUNet networks."""

from typing import Any

import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import public
from tests.zoo.networks import check_network

scunet = public("spandrel.architectures.SCUNet.__arch.SCUNet")


def make() -> Any:
    return scunet.SCUNet(dim=32, config=[0, 2, 0, 0, 0, 0, 0], input_resolution=64)


def excite(network: Any) -> None:
    with torch.no_grad():
        for module in network.modules():
            if hasattr(module, "relative_position_params"):
                module.relative_position_params.normal_(0, 1.5)


def test_scunet():
    check_network(make(), 2, [(64, 64), (40, 50), (33, 35), (48, 36)], excite=excite)


class Transposed(scunet.WMSA):
    """A fork whose index is that of keys minus queries."""

    def relative_embedding(self):
        return super().relative_embedding().transpose(1, 2)


def test_another_bias_index_is_left_alone():
    network = make()
    network.m_down2[1].trans_block.msa.__class__ = Transposed
    _, report = accelerate(network)
    assert [layer.name for layer in report.left] == ["m_down2.1.trans_block.msa"]
    assert report.left[0].reason == "its bias index follows another rule"
