"""`accelerate` on whole RGT networks."""

from typing import Any

import pytest

from sr_engine.dropin import accelerate
from sr_engine.dropin.families.rectangles import free_tables
from tests.zoo.modules import public
from tests.zoo.networks import check_network

rgt = public("spandrel.architectures.RGT.__arch.rgt")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def make_rgt(**changes: Any) -> Any:
    """An unshifted, a recursive (which stays) and a shifted block, then a shifted one of the second group."""
    arguments = {"img_size": 16, "embed_dim": 32, "depth": [3, 1], "num_heads": [4, 2], "split_size": [4, 8]}
    return rgt.RGT(**{**arguments, "mlp_ratio": 2, "c_ratio": 0.5, "upscale": 2, **changes})


def free(network: Any) -> None:
    """Tables of independent entries."""
    for module in network.modules():
        if hasattr(module, "attns"):
            free_tables(module.attns)


def test_rgt():
    check_network(make_rgt(), 3, [(16, 16), (24, 16), (19, 21), (17, 16)], excite=free)


def test_rgt_with_its_position_networks():
    check_network(make_rgt(embed_dim=64, split_size=[8, 8]), 3, [(16, 16), (24, 16), (19, 21), (17, 16)])


def test_a_turned_index_is_left_alone():
    network = make_rgt()
    branch = network.layers[1].blocks[0].attn.attns[0]
    branch.relative_position_index = branch.relative_position_index.flip(0)
    _, report = accelerate(network)
    (left,) = report.left
    assert left.name == "layers.1.blocks.0.attn"
    assert left.reason == "its bias index follows another rule"
