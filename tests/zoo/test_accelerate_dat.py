"""`accelerate` on whole DAT networks."""

from typing import Any

import pytest

from sr_engine.dropin import accelerate
from tests.zoo.modules import public
from tests.zoo.networks import check_network, sharpen, sharpen_and_free

dat = public("spandrel.architectures.DAT.__arch.DAT")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def make_dat(**changes: Any) -> Any:
    """An unshifted, a channel and a shifted block, then a shifted one of the second group."""
    arguments = {"img_size": 16, "embed_dim": 32, "depth": [3, 1], "num_heads": [4, 2], "split_size": [4, 8]}
    return dat.DAT(**{**arguments, "expansion_factor": 2, "upsampler": "pixelshuffledirect", **changes})


def test_dat():
    check_network(make_dat(), 4, [(16, 16), (24, 16), (13, 19), (9, 7)], excite=sharpen_and_free)


def test_dat_with_its_position_networks():
    changes = {"embed_dim": 64, "split_size": [8, 8], "resi_connection": "3conv"}
    check_network(make_dat(**changes), 4, [(16, 16), (24, 16), (13, 19), (9, 7)], excite=sharpen)


def test_a_transposed_index_is_left_alone():
    network = make_dat()
    branch = network.layers[0].blocks[0].attn.attns[1]
    branch.relative_position_index = branch.relative_position_index.T.contiguous()
    _, report = accelerate(network)
    (left,) = report.left
    assert left.name == "layers.0.blocks.0.attn"
    assert left.reason == "its bias index follows another rule"


def test_another_mask_is_left_alone():
    network = make_dat()
    network.layers[0].blocks[2].attn.attn_mask_1 *= 0.5
    _, report = accelerate(network)
    (left,) = report.left
    assert left.name == "layers.0.blocks.2.attn"
    assert left.reason == "its mask follows another rule"
