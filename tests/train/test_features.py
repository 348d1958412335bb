"""Which layers a network has, their features as maps whatever form they come in, and what is learned from them."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sr_engine.errors import ConfigError
from sr_engine.models.generator import Generator
from sr_engine.train import run
from sr_engine.train.checkpoint import load_checkpoint
from sr_engine.train.distributed import World
from sr_engine.train.features import Taps, blocks
from sr_engine.train.pair import Pair
from sr_engine.train.session import Session

CPU = World(torch.device("cpu"))
NANO = "network_g={type: generator, preset: nano, width: 16, stages: 2}"
SMALL = ("training.patch_size=8", "training.total_iter=8", "datasets.val=null")


class Forms(nn.Module):
    """A layer for each form of features of a 6x4 picture with 5 channels, one that is not called, one of no form."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 1)
        self.map, self.tokens, self.last = nn.Identity(), nn.Identity(), nn.Identity()
        self.both, self.idle, self.flat = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.map(self.first(x))
        self.tokens(y.flatten(2).transpose(1, 2))
        self.last(y.permute(0, 2, 3, 1))
        self.both((y, None))
        self.flat(y.flatten(1))
        return y


@pytest.mark.parametrize("name", ["map", "tokens", "last", "both"])
def test_every_form_becomes_a_map(name):
    net, x = Forms(), torch.rand(2, 3, 6, 4)
    taps = Taps(net, [name, "first"], "key")
    taps.attach()
    y = net(x)
    assert all(torch.equal(feature, y) for feature in taps.maps(x))


@pytest.mark.parametrize(("name", "found"), [("idle", "gives no tensor in a pass"), ("flat", r"gives \(1, 180\)")])
def test_what_is_no_map_is_named(name, found):
    with pytest.raises(ConfigError, match=f"key: layer {name} {found} for a picture"):
        Taps(Forms(), [name], "key").channels(6, torch.device("cpu"))


def test_counting_channels_leaves_no_trace():
    net = Forms()
    net.map.eval()
    modes = [module.training for module in net.modules()]
    taps = Taps(net, ["map", "tokens"], "key")
    assert taps.channels(4, torch.device("cpu")) == [5, 5]
    assert [module.training for module in net.modules()] == modes
    net(torch.rand(1, 3, 6, 4))
    with pytest.raises(ConfigError, match="gives no tensor"):
        taps.maps(torch.rand(1, 3, 6, 4))


def test_blocks_are_counted_from_both_ends():
    net = Generator(scale=2, preset="small", width=12, stages=3)
    assert blocks(net) == ["body.0", "body.1", "body.2"]
    assert Taps(net, [0, -1, "body.1.units.0"], "key").names == ["body.0", "body.2", "body.1.units.0"]
    assert blocks(Forms()) == []
    for number in (3, -4):
        with pytest.raises(ConfigError, match=rf"key: there is no layer {number}; known are 0: body.0, 1: body.1, "):
            Taps(net, [number], "key")


def test_projections_are_trained_and_left_out_of_the_file(tmp_path, make_config, teacher, quiet):
    features = "distill.features={student: [0, body.1], teacher: [-2, -1]}"
    config = make_config(NANO, *SMALL, f"distill.teacher={teacher}", features, "training.checkpoint_every=4")
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    kept = [load_checkpoint(tmp_path / f"run/checkpoints/0000000{it}.ckpt")["generator"] for it in (4, 8)]
    projections = [state["companion"] for state in kept]
    assert {name: tuple(value.shape) for name, value in projections[0].items()} == {
        "0.weight": (16, 16, 1, 1),
        "0.bias": (16,),
        "1.weight": (16, 16, 1, 1),
        "1.bias": (16,),
    }
    assert not any(torch.equal(projections[0][name], projections[1][name]) for name in projections[0])
    run(make_config(NANO, *SMALL), output=tmp_path / "other", device="cpu", console=quiet)
    files = [load_file(tmp_path / name / "model.safetensors").keys() for name in ("run", "other")]
    assert files[0] == files[1]
    first = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[0])
    assert first["losses"].keys() == {"pixel", "distill", "distill_features"}


def test_features_teach_the_layers_they_name_and_those_before(make_config, teacher):
    options = (f"distill={{teacher: {teacher}, loss_weight: 0}}", "losses.pixel.loss_weight=0")
    options += ("training.optim_g={type: AdamW, weight_decay: 0.0}",)  # which moves weights without a gradient
    session = Session(make_config(NANO, *SMALL, *options, "distill.features={student: [0], teacher: [1]}"), CPU)
    before = {name: value.clone() for name, value in session.net_g.state_dict().items()}
    pair = Pair(torch.rand(4, 3, 8, 8), torch.rand(4, 3, 16, 16))
    values = session.steps.run(pair, 0, lr_g=1e-3, lr_d=0.0, next_pair=lambda: pair).values
    assert values.keys() == {"distill_features"}
    moved = {
        name.split(".")[0] + "." + name.split(".")[1]
        for name in before
        if not torch.equal(before[name], session.net_g.state_dict()[name])
    }
    assert moved == {"stem.weight", "stem.bias", "body.0"}


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_layer_that_is_not_there_lists_what_there_is(make_config, teacher, side):
    layers = {"student": "[0]", "teacher": "[0]", side: "[bodi.1]"}
    features = f"distill.features={{student: {layers['student']}, teacher: {layers['teacher']}}}"
    listed = r"there is no layer 'bodi.1' \(did you mean 'body.1'\?\); known are 0: body.0, 1: body.1, "
    with pytest.raises(ConfigError, match=f"distill.features.{side}: {listed}"):
        Session(make_config(NANO, *SMALL, f"distill.teacher={teacher}", features), CPU)
