"""`accelerate` on whole CRAFT networks."""

from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import public
from tests.zoo.networks import check_network, sharpen, sharpen_and_free

craft = public("spandrel.architectures.CRAFT.__arch.CRAFT")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def make_craft(**changes: Any) -> Any:
    """Two groups of an unshifted and a shifted block and a fusion."""
    arguments = {"window_size": 8, "embed_dim": 32, "depths": [1, 1], "num_heads": [2, 4], "upscale": 2}
    return craft.CRAFT(**{**arguments, "split_size_0": 4, "split_size_1": 8, **changes})


@pytest.mark.parametrize(("changes", "excite"), [({}, sharpen_and_free), ({"embed_dim": 64}, sharpen)])
def test_craft(changes, excite):
    check_network(make_craft(**changes), 6, [(16, 16), (24, 16), (13, 19), (9, 7)], excite=excite)


def test_a_transposed_index_is_left_alone():
    network = make_craft()
    network.relative_position_index_v = network.relative_position_index_v.T.contiguous()
    _, report = accelerate(network)
    assert {layer.kind for layer in report.left} == {"SRWAB"}
    assert {layer.reason for layer in report.left} == {"its bias index follows another rule"}
    assert {layer.kind for layer in report.swapped} == {"Attention"}


def test_masks_of_a_fork_are_obeyed():
    """A caller may pass masks; then the original computes."""
    network = make_craft().eval()
    block = network.layers[0].residual_group.srwa_blocks[1]
    params = {f"rpi_sa_{side}": getattr(network, f"relative_position_index_{side}") for side in "hv"}
    params |= {f"biases_{side}": getattr(network, f"biases_{side}") for side in "hv"}
    x, mask = torch.randn(1, 64, 32), torch.randn(2, 32, 32)
    with torch.no_grad():
        expected = block(x, (8, 8), params, (mask, mask))
        accelerate(network)
        assert torch.equal(block(x, (8, 8), params, (mask, mask)), expected)
