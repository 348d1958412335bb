"""What files of other programs are refused, which weights of a file are taken, and where they go."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sr_engine.errors import ModelFileError
from sr_engine.models import community
from sr_engine.models.files import load_model, read_model_file
from sr_engine.models.generator import Generator
from sr_engine.models.transfer import transfer_weights

pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")

SWINIR = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8, "img_size": 16, "mlp_ratio": 2.0}
SWINIR |= {"upsampler": "pixelshuffledirect", "upscale": 2}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def swinir() -> nn.Module:
    torch.manual_seed(1)
    return community.spandrel(scale=2, arch="SwinIR", **SWINIR).net.eval()


class _Attack:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_an_archive_that_would_grow_is_refused_before_it_does(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2**23)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed,
    ):
        for info in plain.infolist():
            packed.writestr(info.filename, plain.read(info))
    with pytest.raises(ModelFileError, match=r"a\.pth: would unpack to 33,\d+,\d+ bytes, from a file of \d+,\d+; save"):
        load_model(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "not a file that torch.save wrote"),
        (b"", "not a file that torch.save wrote"),
        ({"weights": _Attack()}, r"holds an object of type \S*print, which could run code"),
        ({}, "holds no weights"),
        ({"epoch": 3, "name": "x"}, r"holds no weights \(found epoch, name\)"),
        ([1, 2], "holds a list, not weights"),
        ({1: torch.zeros(1)}, r"holds no weights \(found 1\)"),
        ({"conv.weight": torch.zeros(1)}, "not a model file of sr-engine, nor weights that spandrel knows"),
        ({"iteration": 3, "generator": {"net": {}}, "ema": {}}, "a training checkpoint of sr-engine; give its run"),
    ],
)
def test_what_is_no_network_is_one_sentence(tmp_path: Path, content: Any, words: str, capsys: Any) -> None:
    path = tmp_path / "a.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelFileError, match=words) as caught:
        load_model(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_weights_that_only_look_like_a_network(swinir: nn.Module, tmp_path: Path) -> None:
    state = swinir.state_dict()
    state["conv_after_body.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ModelFileError, match="looks like SwinIR, but its weights do not make one"):
        load_model(tmp_path / "a.pth")
    torch.save(swinir.state_dict(), tmp_path / "b.pth")
    (tmp_path / "b.pth").write_bytes((tmp_path / "b.pth").read_bytes()[:5000])
    with pytest.raises(ModelFileError, match="or not a whole one"):
        load_model(tmp_path / "b.pth")


def test_a_torchscript_archive_gives_its_weights(tmp_path: Path) -> None:
    net = community.spandrel(scale=2, arch="Compact", num_feat=4, num_conv=1).net.eval()
    x = torch.rand(1, 3, 5, 6)
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(net, x), tmp_path / "a.pt")
    assert torch.equal(load_model(tmp_path / "a.pt")(x), net(x).clamp(0, 1))


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.full((3,), torch.nan), "has NaN"),
        (torch.zeros(1).expand(10**6, 10**6), r"says \(1000000, 1000000\), of which only a part is in the file"),
        (
            torch.sparse_coo_tensor(torch.zeros(2, 0), torch.zeros(0), (10**6, 10**6), check_invariants=True),
            "is stored sparse",
        ),
        (torch.empty(10**6, 10**6, device="meta"), "without its numbers"),
    ],
)
def test_weights_that_are_not_what_they_say(tmp_path: Path, weight: Tensor, words: str) -> None:
    torch.save({"conv.weight": torch.zeros(3), "conv.bias": weight}, tmp_path / "a.pth")
    with pytest.raises(ModelFileError, match=rf"a\.pth: weight 'conv\.bias' .*{words}"):
        load_model(tmp_path / "a.pth")


@pytest.mark.parametrize("key", ["itself", "model"])
def test_a_file_that_holds_itself(tmp_path: Path, key: str) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content[key] = content
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelFileError, match=rf"holds no weights \(found epoch, {key}\)"):
        load_model(tmp_path / "a.pth")
    content["weight"] = torch.zeros(1)
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelFileError, match="nor weights that spandrel knows"):
        load_model(tmp_path / "a.pth")


class _Writer(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.weight = path, torch.zeros(3)

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, Tensor, bool]:  # type: ignore[override]
        return self.path, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]) -> None:
        self.path, self.training = state[0], state[2]
        self.weight = torch.from_file(state[0], True, 3)  # makes the file


def test_a_torchscript_archive_runs_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(_Writer(str(tmp_path / "written"))).save(tmp_path / "a.pt")
    with pytest.raises(ModelFileError, match="a TorchScript archive that cannot be read"):
        load_model(tmp_path / "a.pt")
    assert not (tmp_path / "written").exists()


def test_the_key_of_the_weights_can_be_chosen(swinir: nn.Module, tmp_path: Path) -> None:
    path, state = tmp_path / "a.pth", swinir.state_dict()
    torch.save({"params_ema": state, "params": {k: v + 1 for k, v in state.items()}}, path)
    assert torch.equal(read_model_file(path).state["conv_first.bias"], state["conv_first.bias"])
    assert torch.equal(read_model_file(path, key="params").state["conv_first.bias"], state["conv_first.bias"] + 1)
    with pytest.raises(ModelFileError, match=r"no weights under param_key 'ema'; it has params_ema, params"):
        read_model_file(path, key="ema")
    torch.save(state, path)
    with pytest.raises(ModelFileError, match="leave the key out"):
        read_model_file(path, key="params")


def test_weights_move_between_networks(swinir: nn.Module, tmp_path: Path) -> None:
    torch.save({"params": swinir.state_dict()}, tmp_path / "x2.pth")
    other = community.spandrel(scale=2, arch="swinir", **SWINIR | {"img_size": 48})  # other masks, the same weights
    report = transfer_weights(other, tmp_path / "x2.pth")
    assert report.missing + report.unused == []
    x = torch.rand(1, 3, 16, 24)
    assert torch.equal(other.eval()(x), load_model(tmp_path / "x2.pth")(x))

    larger = community.spandrel(scale=3, arch="SwinIR", **{**SWINIR, "upscale": 3, "depths": [3]})
    with pytest.raises(ModelFileError) as caught:
        transfer_weights(larger, tmp_path / "x2.pth")
    for words in (
        "upsample.0.weight (12, 12, 3, 3) for (27, 12, 3, 3)",
        "blocks.2.norm1.weight",
        "strict_load_g: false",
    ):
        assert words in str(caught.value)
    report = transfer_weights(larger, tmp_path / "x2.pth", strict=False)
    assert "upsample.0.weight" in report.missing
    assert "upsample.0.weight" in report.unused
    assert "layers.0.residual_group.blocks.2.norm1.weight, " in report.summary()
    assert torch.equal(larger.state_dict()["conv_first.weight"], swinir.state_dict()["conv_first.weight"])
    with pytest.raises(ModelFileError, match=r"nothing in it fits the network \(Compact\)"):
        transfer_weights(community.spandrel(scale=2, arch="compact"), tmp_path / "x2.pth", strict=False)
    with pytest.raises(ModelFileError, match="nothing in it fits"):
        transfer_weights(Generator(scale=2, preset="nano"), tmp_path / "x2.pth")
