"""`accelerate` on torchvision's Swin and Swin V2 networks."""

from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import cosine_table, public, randomise, widen
from tests.zoo.networks import check_network

swin = public("torchvision.models.swin_transformer")

SMALL = {"patch_size": [2, 2], "embed_dim": 20, "depths": [2, 2], "num_heads": [2, 4], "mlp_ratio": 2, "num_classes": 5}
V2 = {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}
NETWORKS = pytest.mark.parametrize("version", [{}, V2], ids=["v1", "v2"])


def make(**changes: Any) -> Any:
    return swin.SwinTransformer(**{**SMALL, "window_size": [4, 4], **changes})


def excite(network: Any) -> None:
    for module in network.modules():
        if hasattr(module, "cpb_mlp"):
            widen(module.cpb_mlp[2], lambda attn=module: cosine_table(attn), 0.5)


@NETWORKS
@pytest.mark.parametrize("window", [[4, 4], [3, 5]])
def test_torchvision_swin(version, window):
    sizes = [(32, 32), (24, 40), (29, 23), (8, 38), (18, 20)]
    check_network(make(window_size=window, **version), 4, sizes, excite=excite)


@NETWORKS
def test_another_bias_index_is_left_alone(version):
    network = make(**version)
    network.features[1][1].attn.relative_position_index += 1
    _, report = accelerate(network)
    assert [layer.name for layer in report.left] == ["features.1.1.attn"]
    assert (report.left[0].reason or "").startswith("its bias index")


@NETWORKS
def test_attention_dropout_needs_the_original(version):
    network = make(attention_dropout=0.5, stochastic_depth_prob=0.0, **version)
    randomise(network)
    _, report = accelerate(network.train())
    assert not report.swapped
    assert "dropout is active" in (report.left[0].reason or "")

    _, report = accelerate(network.eval())
    assert not report.left
    x = torch.rand(1, 3, 24, 24)
    assert torch.equal(network(x), network(x))
    network.train()
    assert not torch.equal(network(x), network(x))
