"""`accelerate` on whole GRL networks."""

from typing import Any

import pytest

from sr_engine.dropin import accelerate
from tests.zoo.modules import public, widen
from tests.zoo.networks import check_network

grl = public("spandrel.architectures.GRL.__arch.grl")


def make_grl(**changes: Any) -> Any:
    """A shifted and an unshifted block."""
    arguments = {"img_size": 16, "embed_dim": 24, "depths": [2], "num_heads_window": [2], "num_heads_stripe": [2]}
    arguments |= {"window_size": 8, "stripe_size": [8, 16], "anchor_window_down_factor": 2, "mlp_ratio": 2}
    return grl.GRL(**{**arguments, "upscale": 2, "upsampler": "pixelshuffledirect", **changes})


def strengthen(network: Any) -> None:
    """Tables that vary."""
    for name, module in network.named_modules():
        if hasattr(module, "cpb_mlp"):
            coordinates = network.table_w if "window_attn" in name else network.table_sh
            widen(module.cpb_mlp[2], lambda m=module, c=coordinates: m.cpb_mlp(c).flatten(0, -2), 0.5)


@pytest.mark.parametrize("changes", [{}, {"stripe_shift": True, "depths": [4], "local_connection": True}])
def test_grl(changes):
    network = make_grl(**changes)
    layers = len(network.layers[0].blocks)
    report = check_network(network, layers, [(16, 16), (32, 16), (13, 19), (9, 7)], excite=strengthen)
    assert {layer.family for layer in report.layers} == {"GRL window attention"}


def test_a_transposed_index_is_left_alone():
    network = make_grl()
    network.index_w = network.index_w.T.contiguous()
    _, report = accelerate(network)
    assert not report.swapped
    assert {layer.reason for layer in report.left} == {"its bias index follows another rule"}


def test_another_mask_is_left_alone():
    network = make_grl()
    network.mask_w *= 0.5
    _, report = accelerate(network)
    assert [layer.name for layer in report.swapped] == ["layers.0.blocks.1.attn.window_attn"]
    assert [layer.reason for layer in report.left] == ["its mask follows another rule"]


def test_distances_are_left_alone():
    _, report = accelerate(make_grl(euclidean_dist=True))
    assert {layer.reason for layer in report.left} == {"it compares by distances, not by cosines"}
