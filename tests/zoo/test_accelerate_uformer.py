"""`accelerate` on whole Uformer networks."""

from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import public, randomise
from tests.zoo.networks import check_network

uformer = public("spandrel.architectures.Uformer.__arch.Uformer")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
DEPTHS = [2, 1, 1, 1, 1, 1, 1, 1, 2]


def make(**changes: Any) -> Any:
    arguments = {"img_size": 32, "embed_dim": 8, "depths": DEPTHS, "num_heads": [1, 1, 2, 2, 4, 2, 2, 1, 1]}
    return uformer.Uformer(**{**arguments, "win_size": 4, "mlp_ratio": 1.0, "modulator": True, **changes})


@pytest.mark.parametrize("changes", [{}, {"modulator": False, "cross_modulator": True, "token_mlp": "ffn"}])
def test_uformer(changes):
    check_network(make(**changes), sum(DEPTHS), [(32, 32), (64, 64), (96, 96), (32, 32)])


def test_an_input_mask_takes_the_original():
    network = make(modulator=False)
    randomise(network)
    network.eval()
    x, mask = torch.rand(1, 3, 32, 32), (torch.rand(1, 1, 32, 32) > 0.5).float()
    expected = network(x, mask)
    _, report = accelerate(network)
    assert not report.left
    assert torch.equal(network(x, mask), expected)


def test_another_bias_index_is_left_alone():
    network = make()
    attn = network.encoderlayer_0.blocks[1].attn
    attn.relative_position_index = attn.relative_position_index.t().contiguous()
    _, report = accelerate(network)
    assert [layer.name for layer in report.left] == ["encoderlayer_0.blocks.1"]
    assert report.left[0].reason == "its bias index follows another rule"


def test_a_modulator_under_a_shift_that_is_not_half_a_window():
    block = uformer.LeWinTransformerBlock(8, (12, 12), 2, win_size=4, shift_size=1, modulator=True)
    _, report = accelerate(block)
    assert not report.left, str(report)
