"""Networks of other projects as exported files."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")

from sr_engine.errors import ExportError
from sr_engine.export import BOUNDS, SIZES, export_onnx, export_pt2
from sr_engine.models import community
from sr_engine.models.community_network import CommunityNetwork

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")

SWIN = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8, "img_size": 16, "mlp_ratio": 2.0}
NETWORKS: dict[str, dict[str, Any]] = {
    "SwinIR": {**SWIN, "upsampler": "pixelshuffledirect"},
    "Swin2SR": {**SWIN, "upsampler": "pixelshuffledirect"},
    "SRFormer": {**SWIN, "upsampler": "pixelshuffledirect"},
    "HAT": {**SWIN, "upsampler": "pixelshuffle", "compress_ratio": 3, "squeeze_factor": 3, "num_feat": 8},
    "DAT": {
        "embed_dim": 32,
        "depth": [2],
        "num_heads": [2],
        "split_size": [4, 8],
        "img_size": 16,
        "upsampler": "pixelshuffledirect",
    },
    "OmniSR": {"num_feat": 8, "res_num": 1, "block_num": 1},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8},
    "ESRGAN": {"num_filters": 8, "num_blocks": 1},
    "Compact": {"num_feat": 8, "num_conv": 2},
}


def network(arch: str) -> CommunityNetwork:
    net = community.spandrel(scale=2, arch=arch, **NETWORKS[arch]).eval()
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.06)
    return net


def slow(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize(
    "arch", ["SwinIR", *slow(*(name for name in NETWORKS if name not in ("SwinIR", "SPAN"))), "SPAN"]
)
def test_onnx_at_any_size(arch: str, tmp_path: Path) -> None:
    net = network(arch)
    exported = export_onnx(net, tmp_path / "net.onnx", verify=True)
    assert len(exported.checks) == len(SIZES)
    facts = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    sizes = json.loads(facts["sr_engine"])["sizes"]
    assert sizes == {"minimum": net.sizes.minimum, "multiple_of": net.sizes.multiple_of, "square": net.sizes.square}
    assert facts["architecture"] == arch


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["SwinIR", "HAT", "SPAN"])
def test_half_precision(arch: str, tmp_path: Path) -> None:
    exported = export_onnx(network(arch), tmp_path / "net.onnx", precision="fp16", verify=True)
    assert max(d.largest for d in exported.checks) <= BOUNDS["fp16"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["SwinIR", "HAT", "DAT", "SPAN"])
def test_pt2_at_any_size(arch: str, tmp_path: Path) -> None:
    export_pt2(network(arch), tmp_path / "net.pt2", verify=True)


@pytest.mark.slow
def test_a_graph_of_one_size_is_not_left(tmp_path: Path) -> None:
    """SwinIR's own attention computes the mask of its shift in Python; found without being asked to verify."""
    with pytest.raises(ExportError, match=r"differs from torch by .* at \d+x\d+ .*, so the file was not written"):
        export_onnx(network("SwinIR"), tmp_path / "net.onnx", accelerate=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [1, 4])
def test_luma_and_alpha(channels: int, tmp_path: Path) -> None:
    net = CommunityNetwork(nn.Conv2d(channels, channels, 3, padding=1), network("Compact").spec, channels=channels)
    net.spec = network("Compact").spec.__class__(architecture="spandrel", arguments={"arch": "x"}, scale=1)
    net.scale = 1
    torch.nn.init.normal_(net.get_submodule("net").weight, std=0.2)  # type: ignore[arg-type]
    export_pt2(net.eval(), tmp_path / "net.pt2", verify=True)
