"""`accelerate` on whole networks with transposed attention: Restormer, and HVI-CIDNet, whose queries are apart."""

from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import public
from tests.zoo.networks import check_network, sharpen

restormer = public("spandrel_extra_arches.architectures.Restormer.__arch.restormer_arch")
cidnet = public("spandrel.architectures.HVICIDNet.__arch.cidnet")


def make_restormer(**changes: Any) -> Any:
    arguments = {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 2, 4, 2]}
    return restormer.Restormer(**{**arguments, **changes})


@pytest.mark.parametrize("changes", [{}, {"bias": True, "LayerNorm_type": "BiasFree"}])
def test_restormer(changes):
    check_network(make_restormer(**changes), 8, [(32, 32), (40, 24), (24, 56), (16, 24)], excite=sharpen)


def test_cidnet():
    network = cidnet.CIDNet(channels=[8, 8, 16, 24], heads=[1, 2, 4, 8])
    check_network(network, 12, [(32, 32), (40, 24), (24, 56), (16, 24)], excite=sharpen)


def test_a_temperature_a_channel_is_left_alone():
    network = make_restormer()
    attention = network.latent[0].attn
    attention.temperature = torch.nn.Parameter(torch.ones(2, 32, 1))
    _, report = accelerate(network)
    (left,) = report.left
    assert left.name == "latent.0.attn"
    assert left.reason == "its temperature has the shape (2, 32, 1), not one number for each of 2 heads"
