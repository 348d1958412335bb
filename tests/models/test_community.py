"""Files of other programs as networks of ours, compared with what spandrel makes of them."""

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sr_engine.errors import EngineError, ModelFileError
from sr_engine.models import community
from sr_engine.models.community_network import CommunityNetwork, SizeRule
from sr_engine.models.files import load_model, save_model
from sr_engine.models.transfer import transfer_weights

spandrel = pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")
arches = community.arches

SWINIR = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8, "img_size": 16, "mlp_ratio": 2.0}
SWINIR |= {"upsampler": "pixelshuffledirect", "upscale": 2}


@pytest.fixture(autouse=True)
def _seeded(one_thread: None) -> None:
    torch.manual_seed(0)


def make(arch: str, **arguments: Any) -> nn.Module:
    """A network as its project has it, with weights that leave no part silent."""
    net = arches.find(arch).network(**arguments)
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.1)
    return net.eval()


def by_spandrel(path: Path, x: Tensor) -> Tensor:
    return spandrel.ModelLoader().load_from_file(path)(x.clone())


def load(path: Path) -> CommunityNetwork:
    return cast(CommunityNetwork, load_model(path))


@pytest.fixture(scope="module")
def swinir() -> nn.Module:
    torch.manual_seed(1)
    return make("SwinIR", **SWINIR)


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        ("pth", lambda state: {"params_ema": state, "params": {k: v * 0 for k, v in state.items()}}),
        ("pth", lambda state: {"params": state, "ema": {"decay": 0.999}}),
        ("pth", lambda state: {"params-ema": state}),
        ("pt", lambda state: state),
        ("ckpt", lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}),
        ("pth", lambda state: {"model_state_dict": state, "optimizer": {}}),
        ("pth", lambda state: {"generator": state, "discriminator": {"a": torch.zeros(1)}}),
        ("pth", lambda state: {f"generator.net.{k}": v for k, v in state.items()}),
        (
            "PTH",
            lambda state: {f"_orig_mod.module.{k}": v.half() if v.is_floating_point() else v for k, v in state.items()},
        ),
    ],
    ids=["params_ema", "params", "params-ema", "bare", "state_dict", "model_state_dict", "generator", "prefix", "half"],
)
def test_every_form_of_a_file_gives_the_network(swinir: nn.Module, tmp_path: Path, suffix: str, form: Any) -> None:
    torch.save(form(swinir.state_dict()), tmp_path / f"net.{suffix}")
    net, x = load(tmp_path / f"net.{suffix}"), torch.rand(1, 3, 11, 17)
    torch.save(swinir.state_dict(), tmp_path / "plain.pth")
    expected = by_spandrel(tmp_path / "plain.pth", x)
    torch.testing.assert_close(net(x), expected, rtol=0, atol=5e-3 if suffix == "PTH" else 0)  # PTH: halves
    assert not net.training
    assert (net.spec.architecture, net.spec.arguments["arch"], net.spec.scale) == ("spandrel", "SwinIR", 2)


def test_a_safetensors_file_without_our_description(swinir: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({k: v.clone() for k, v in swinir.state_dict().items()}, path)
    x = torch.rand(2, 3, 9, 24)
    assert torch.equal(load(path)(x), by_spandrel(path, x))


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (17, 3), (24, 40)])
def test_any_size_is_accepted_and_padded_as_spandrel_pads(swinir: nn.Module, tmp_path: Path, size: tuple) -> None:
    torch.save(swinir.state_dict(), tmp_path / "a.pth")
    x = torch.rand(1, 3, *size)
    y = load(tmp_path / "a.pth")(x)
    assert y.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert torch.equal(y, by_spandrel(tmp_path / "a.pth", x))


def test_size_rules_are_those_of_spandrel() -> None:
    for minimum, multiple, square in [(0, 1, False), (16, 1, False), (0, 8, False), (20, 16, False), (0, 12, True)]:
        theirs = spandrel.SizeRequirements(minimum=minimum, multiple_of=multiple, square=square)
        ours = SizeRule(theirs.minimum, multiple, square)
        for height, width in [(1, 1), (7, 33), (16, 16), (24, 48)]:
            assert ours.padding(height, width) == theirs.get_padding(width, height)[::-1]


def test_weights_in_an_older_spelling(tmp_path: Path) -> None:
    """Real-ESRGAN's names of the layers, which spandrel turns into ESRGAN's."""
    net = make("ESRGAN", num_filters=8, num_blocks=1, scale=2)
    state = {}
    for name, value in net.state_dict().items():
        name = name.replace("model.0.", "conv_first.").replace("model.1.sub.1.", "conv_body.")
        name = (
            name.replace("model.1.sub.0.RDB", "body.0.rdb").replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        )
        name = name.replace("model.3.", "conv_up1.").replace("model.5.", "conv_hr.").replace("model.7.", "conv_last.")
        state[name] = value
    torch.save({"params_ema": state}, tmp_path / "x2.pth")
    x = torch.rand(1, 3, 5, 8)
    assert torch.equal(load(tmp_path / "x2.pth")(x), by_spandrel(tmp_path / "x2.pth", x))
    torch.save(state, tmp_path / "bare.pth")
    into = community.spandrel(scale=2, arch="esrgan", num_filters=8, num_blocks=1)
    assert transfer_weights(into, tmp_path / "bare.pth").missing == []
    assert torch.equal(into.eval()(x), load(tmp_path / "x2.pth")(x))


def test_a_grey_network_upscales_luma(tmp_path: Path) -> None:
    net = make("DnCNN", in_nc=1, out_nc=1, nc=4, nb=17, act_mode="R")
    torch.save(net.state_dict(), tmp_path / "a.pth")
    ours, grey = load(tmp_path / "a.pth"), torch.rand(1, 1, 12, 9)
    expected = by_spandrel(tmp_path / "a.pth", grey)
    torch.testing.assert_close(ours(grey.expand(-1, 3, -1, -1)), expected.expand(-1, 3, -1, -1), rtol=0, atol=3e-6)
    x = torch.rand(1, 3, 12, 9) * 0.4 + 0.3
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    luma = (x * weights).sum(1, keepdim=True)
    change = by_spandrel(tmp_path / "a.pth", luma) - luma
    torch.testing.assert_close(ours.train()(x) - x, change.expand(-1, 3, -1, -1), rtol=0, atol=1e-5)


def test_a_network_with_alpha_gets_an_opaque_one(tmp_path: Path) -> None:
    net = make("ESRGAN", in_nc=4, out_nc=4, num_filters=8, num_blocks=1, scale=2)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    x = torch.rand(1, 3, 6, 7)
    expected = by_spandrel(tmp_path / "a.pth", torch.cat([x, torch.ones(1, 1, 6, 7)], 1))[:, :3]
    assert torch.equal(load(tmp_path / "a.pth")(x), expected)


def test_networks_that_do_not_upscale_pictures_are_refused(tmp_path: Path) -> None:
    torch.save(make("ESRGAN", in_nc=3, out_nc=1, num_filters=8, num_blocks=1).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelFileError, match=r"a\.pth: ESRGAN maps 3 channels to 1"):
        load(tmp_path / "a.pth")
    face = SimpleNamespace(purpose="FaceSR", architecture=SimpleNamespace(name="GFPGAN"))
    with pytest.raises(EngineError, match="GFPGAN is a network for FaceSR"):
        community._wrapped(face)


def test_the_input_is_left_as_it_was(tmp_path: Path) -> None:
    net = make("RCAN", scale=2, n_resgroups=1, n_resblocks=1, n_feats=8, reduction=4)  # multiplies its input in place
    torch.save(net.state_dict(), tmp_path / "a.pth")
    x = torch.rand(1, 3, 8, 8)
    before = x.clone()
    first = load(tmp_path / "a.pth")(x)
    assert torch.equal(x, before)
    assert torch.equal(first, by_spandrel(tmp_path / "a.pth", x))


def test_our_file_of_it_keeps_the_names_and_loads_everywhere(swinir: nn.Module, tmp_path: Path) -> None:
    torch.save(swinir.state_dict(), tmp_path / "a.pth")
    net, x = load(tmp_path / "a.pth"), torch.rand(1, 3, 20, 13)
    path = tmp_path / "model.safetensors"
    save_model(path, net, licence="CC0-1.0")
    with safe_open(path, framework="pt") as file:
        assert list(file.keys()) == sorted(swinir.state_dict())
    again = load(path)
    assert again.spec.licence == "CC0-1.0"
    assert again.spec.arguments == net.spec.arguments
    assert torch.equal(again(x), net(x))
    assert torch.equal(by_spandrel(path, x), net(x))


def test_arguments_that_weights_do_not_show_survive_in_our_file(tmp_path: Path) -> None:
    net = community.spandrel(scale=2, arch="SwinIR", **SWINIR | {"img_range": 255.0}).eval()
    nn.init.normal_(cast(Tensor, net.net.get_parameter("upsample.0.weight")), std=0.5)
    nn.init.normal_(cast(Tensor, net.net.get_parameter("conv_first.weight")), std=0.5)
    assert "img_range 1.0 for 255.0" in str(community.tried(net))
    assert community.tried(community.spandrel(scale=2, arch="SwinIR", **SWINIR)) is None
    save_model(tmp_path / "m.safetensors", net)
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(load(tmp_path / "m.safetensors")(x), net(x))
    assert not torch.allclose(by_spandrel(tmp_path / "m.safetensors", x), net(x), atol=1e-3)


def test_it_is_an_ordinary_module(swinir: nn.Module, tmp_path: Path) -> None:
    torch.save(swinir.state_dict(), tmp_path / "a.pth")
    net, x = load(tmp_path / "a.pth"), torch.rand(1, 3, 16, 16)
    expected = net(x)
    copied = copy.deepcopy(net)
    nested = nn.ModuleDict({"g": community.spandrel(scale=2, arch="SwinIR", **SWINIR)})
    nested.load_state_dict({f"g.{name}": value for name, value in net.state_dict().items()})
    assert set(nested.state_dict()) == {f"g.{name}" for name in swinir.state_dict()}
    unpickled = pickle.loads(pickle.dumps(net))
    for other in (copied, nested.eval()["g"], unpickled):
        assert torch.equal(other(x), expected)
    for parameter in net.parameters():
        parameter.data.zero_()
    assert torch.equal(copied(x), expected)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        net.load_state_dict({**swinir.state_dict(), "more": x})
    assert copied.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_training_is_not_clipped(swinir: nn.Module, tmp_path: Path) -> None:
    torch.save({k: v * 3 if v.is_floating_point() else v for k, v in swinir.state_dict().items()}, tmp_path / "a.pth")
    net, x = load(tmp_path / "a.pth"), torch.rand(1, 3, 16, 16)
    assert net(x).min() == 0
    assert net(x).max() == 1
    assert net.train()(x).min() < 0
