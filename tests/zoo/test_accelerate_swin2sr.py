"""`accelerate` on whole Swin2SR networks."""

from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import cosine_table, public, randomise, widen
from tests.zoo.networks import check_fork, check_network

swin2sr = public("spandrel.architectures.Swin2SR.__arch.Swin2SR")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def make_swin2sr(**changes: Any) -> Any:
    arguments = {"img_size": 16, "embed_dim": 20, "depths": [2], "num_heads": [2], "window_size": 8, "mlp_ratio": 2}
    network = swin2sr.Swin2SR(**{**arguments, "upscale": 2, "upsampler": "pixelshuffledirect", **changes})
    randomise(network)
    widen_tables(network)
    return network.eval()


def widen_tables(network: Any) -> None:
    for block in blocks(network):
        widen(block.attn.cpb_mlp[2], lambda attn=block.attn: cosine_table(attn), 0.5)


def blocks(network: Any) -> Any:
    return network.layers[0].residual_group.blocks


@pytest.mark.parametrize("changes", [{}, {"window_size": 7, "img_size": 21, "qkv_bias": False, "depths": [3]}])
def test_swin2sr(changes):
    network = make_swin2sr(**changes)
    sizes = [(16, 16), (24, 16), (13, 19), (8, 8)]
    report = check_network(network, len(blocks(network)), sizes, excite=widen_tables)
    assert {layer.family for layer in report.layers} == {"Swin2SR block"}


def transposed(block: Any) -> str:
    block.attn.relative_position_index = block.attn.relative_position_index.T.contiguous()
    return "its bias index follows another rule"


def other_mask(block: Any) -> str:
    block.attn_mask *= 0.5
    return "its mask follows another rule"


@pytest.mark.parametrize("fork", [transposed, other_mask])
def test_a_fork_with_another_convention_is_left_alone(fork):
    network = make_swin2sr()
    check_fork(network, fork, blocks(network)[1], "layers.0.residual_group.blocks.1")


def test_a_fork_with_another_limit_of_its_factor_is_left_alone(monkeypatch):
    network = make_swin2sr()
    limited = torch.clamp
    monkeypatch.setattr(torch, "clamp", lambda x, max: limited(x, max=max - 0.5))
    reasons = [layer.reason for layer in accelerate(network)[1].left]
    assert len(reasons) == 2
    assert all(reason is not None and reason.startswith("its output differs") for reason in reasons)


def test_bfloat16():
    network, x = make_swin2sr(), torch.rand(1, 3, 24, 16)
    expected = network(x)
    accelerate(network)
    actual = network.bfloat16()(x.bfloat16())
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).abs().max() <= 0.1 * expected.abs().max()
