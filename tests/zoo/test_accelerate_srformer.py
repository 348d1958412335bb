"""`accelerate` on whole SRFormer networks."""

from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import public, randomise
from tests.zoo.networks import check_fork, check_network

srformer = public("spandrel_extra_arches.architectures.SRFormer.__arch.SRFormer")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")

SIZES = [(16, 16), (24, 16), (13, 19), (8, 8)]


def make_srformer(**changes: Any) -> Any:
    arguments = {"img_size": 16, "embed_dim": 36, "depths": [2], "num_heads": [3], "window_size": 8, "mlp_ratio": 2}
    network = srformer.SRFormer(**{**arguments, "upscale": 2, "upsampler": "pixelshuffledirect", **changes})
    randomise(network)
    return network.eval()


def blocks(network: Any) -> Any:
    return network.layers[0].residual_group.blocks


@pytest.mark.parametrize("changes", [{}, {"window_size": 12, "img_size": 24, "qk_scale": 0.4, "depths": [3]}])
def test_srformer(changes):
    network = make_srformer(**changes)
    native = changes.get("img_size", 16)
    report = check_network(network, len(blocks(network)), [(native, native), *SIZES[1:]])
    assert {layer.family for layer in report.layers} == {"SRFormer block"}


def first_mask(mask: torch.Tensor) -> torch.Tensor:
    """As in the first release: it depends on the query's region alone, -100 for all keys or for none."""
    return mask[:, :, :1].expand_as(mask).contiguous()


@pytest.mark.parametrize(("stored", "builds"), [("first", "first"), ("first", "later"), ("later", "first")])
def test_masks_of_the_first_release_cancel_stored_or_built(monkeypatch, stored, builds):
    network, x = make_srformer(), torch.rand(1, 3, 16, 16)
    masked = network(x)
    if stored == "first":
        blocks(network)[1].attn_mask = first_mask(blocks(network)[1].attn_mask)
        assert (network(x) - masked).abs().max() > 1e-3 * masked.abs().max()
    if builds == "first":
        build = srformer.PSA_Block.calculate_mask
        monkeypatch.setattr(srformer.PSA_Block, "calculate_mask", lambda block, size: first_mask(build(block, size)))
    check_network(network, 2, SIZES)


def transposed(block: Any) -> str:
    index = block.attn.aligned_relative_position_index
    block.attn.aligned_relative_position_index = index.flip(1)
    return "its bias index follows another rule"


def other_mask(block: Any) -> str:
    block.attn_mask[-1] *= 0.5
    return "its mask follows another rule"


@pytest.mark.parametrize("fork", [transposed, other_mask])
def test_a_fork_with_another_convention_is_left_alone(fork):
    network = make_srformer()
    check_fork(network, fork, blocks(network)[1], "layers.0.residual_group.blocks.1")


def test_bfloat16():
    network, x = make_srformer(), torch.rand(1, 3, 24, 16)
    expected = network(x)
    accelerate(network)
    actual = network.bfloat16()(x.bfloat16())
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).abs().max() <= 0.1 * expected.abs().max()
