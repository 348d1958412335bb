"""`accelerate` on timm's Swin and Swin V2 networks."""

from typing import Any

import pytest

from sr_engine.dropin import accelerate
from tests.zoo.modules import cosine_table, public, widen
from tests.zoo.networks import check_network

swin = public("timm.models.swin_transformer")
swin_v2 = public("timm.models.swin_transformer_v2")

SMALL = {"patch_size": 2, "embed_dim": 20, "depths": (2, 2), "num_heads": (2, 4), "mlp_ratio": 2, "num_classes": 5}
NETWORKS = pytest.mark.parametrize(
    ("module", "name"), [(swin, "SwinTransformer"), (swin_v2, "SwinTransformerV2")], ids=["v1", "v2"]
)


def make(module: Any, name: str, **changes: Any) -> Any:
    return getattr(module, name)(**{**SMALL, "img_size": 28, "window_size": 4, **changes})


def excite(network: Any) -> None:
    for module in network.modules():
        if hasattr(module, "cpb_mlp"):
            widen(module.cpb_mlp[2], lambda attn=module: cosine_table(attn), 0.5)


@NETWORKS
def test_timm_swin_given_any_size(module, name):
    network = make(module, name, strict_img_size=False)
    check_network(network, 4, [(28, 28), (24, 40), (30, 22), (18, 20)], excite=excite)


@NETWORKS
def test_timm_swin_of_one_size(module, name):
    network = make(module, name, img_size=(20, 28), window_size=(3, 4))
    check_network(network, 4, [(20, 28)], excite=excite)


def test_timm_swin_v2_without_qkv_bias():
    network = make(swin_v2, "SwinTransformerV2", strict_img_size=False, qkv_bias=False)
    check_network(network, 4, [(28, 28), (18, 20)], excite=excite)


@NETWORKS
def test_another_bias_index_is_left_alone(module, name):
    network = make(module, name)
    attn = network.layers[0].blocks[1].attn
    attn.relative_position_index = attn.relative_position_index.t().contiguous()
    _, report = accelerate(network)
    assert [layer.name for layer in report.left] == ["layers.0.blocks.1"]
    assert report.left[0].reason == "its bias index follows another rule"


def test_another_mask_is_left_alone():
    network = make(swin, "SwinTransformer")
    network.layers[0].blocks[1].attn_mask *= 0.01
    _, report = accelerate(network)
    assert [layer.name for layer in report.left] == ["layers.0.blocks.1"]
    assert report.left[0].reason == "its mask follows another rule"
