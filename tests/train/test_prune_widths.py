"""Runs that begin with a pruned file, and networks that cannot be pruned."""

import io
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from sr_engine.compress import cut_network
from sr_engine.errors import ConfigError
from sr_engine.models.files import read_model_file, save_model
from sr_engine.models.generator import Generator
from sr_engine.train import run
from sr_engine.train.network import with_network
from sr_engine.train.session import Session
from tests.train.cut_runs import CPU, ONCE, SMALL, cut_of, pruned_rows


def test_a_pruned_file_brings_its_widths(tmp_path, make_config, quiet):
    torch.manual_seed(3)
    net = Generator(scale=2, preset="nano")
    nn.init.normal_(net.tail.weight, std=0.05)
    small: Any = cut_network(net, cut_of(net, 0.5))
    save_model(tmp_path / "small.safetensors", small)
    fine = (*SMALL[1:], "network_g={type: generator, preset: nano}", f"load_from={tmp_path / 'small.safetensors'}")
    console = Console(record=True, width=200, file=io.StringIO())
    config = make_config(*fine, "training.total_iter=2")
    run(config, output=tmp_path / "a", device="cpu", console=console)
    file = read_model_file(tmp_path / "a/model.safetensors")
    text = console.export_text()
    assert file.spec.arguments == small.spec.arguments
    assert "network_g is taken from" in text
    assert "without a place" not in text
    (tmp_path / "small.safetensors").rename(tmp_path / "gone.safetensors")  # a run knows what it trains
    run(make_config(*fine, "training.total_iter=3"), output=tmp_path / "a", device="cpu", console=quiet)
    assert read_model_file(tmp_path / "a/model.safetensors").spec.arguments == small.spec.arguments


@pytest.mark.parametrize(
    ("named", "inner"),
    [
        ("{width: 16, stages: 2}", True),  # as the network was called before
        ("{width: 16, stages: 2, inner: [[16, 16], [16, 16]]}", False),
        ("{width: 24, stages: 2}", False),
        ("{width: 16, stages: 3}", False),
        ("{width: 16, stages: 2, kernel_size: 5, routing: dense}", False),
    ],
)
def test_what_network_g_says_wins_over_a_pruned_file(tmp_path, make_config, named, inner):
    net = Generator(scale=2, preset="nano", width=16, stages=2)
    small: Any = cut_network(net, cut_of(net))
    save_model(tmp_path / "small.safetensors", small)
    network = "network_g={type: generator, preset: nano, " + named[1:]
    config = with_network(make_config(*SMALL, network, f"load_from={tmp_path / 'small.safetensors'}"))
    assert (config.network_g.arguments.get("inner") == small.spec.arguments["inner"]) == inner
    transferred = Session(config, CPU).transferred
    assert transferred is not None
    assert bool(transferred.missing) != inner


def test_a_file_that_nobody_pruned_changes_nothing(tmp_path, make_config):
    save_model(tmp_path / "narrow.safetensors", Generator(scale=2, preset="nano", width=16))
    config = make_config("network_g={type: generator, preset: nano}", f"load_from={tmp_path / 'narrow.safetensors'}")
    assert with_network(config) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network_g={type: generator, preset: resampler}", r"^prune: the network has nothing that pruning can remove"),
        ("network_g={type: test_plain}", r"^prune: a Plain cannot be pruned"),
        ("network_g={type: generator, preset: nano, width: 8, stages: 1}", r"^prune: ratio 0\.9 is more than pruning"),
    ],
)
def test_what_cannot_be_pruned_is_found_before_the_training(tmp_path, make_config, quiet, override, message):
    with pytest.raises(ConfigError, match=message):
        run(
            make_config(*SMALL, ONCE, "prune.ratio=0.9", override), output=tmp_path / "run", device="cpu", console=quiet
        )
    assert not (tmp_path / "run").exists()


def test_a_network_of_another_project_loses_hidden_channels(tmp_path, make_config, quiet):
    pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")
    swinir = "network_g={type: spandrel, arch: SwinIR, embed_dim: 12, depths: [2], num_heads: [2], window_size: 4, "
    swinir += "img_size: 8, mlp_ratio: 4.0, upsampler: pixelshuffledirect}"
    pruning = "prune={ratio: 0.15, start_iter: 2, batches: 1, regularise: 0.1}"
    config = make_config(*SMALL, swinir, pruning, "training.total_iter=3", "training.checkpoint_every=1")
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    (row,) = pruned_rows(tmp_path / "run")
    file = read_model_file(tmp_path / "run/model.safetensors")
    assert [len(value) < 48 for name, value in file.state.items() if name.endswith("fc1.weight")] == [True, True]
    assert 1 - row["parameters_after"] / row["parameters_before"] == pytest.approx(0.15, abs=0.03)
    assert file.spec.arguments["mlp_ratio"] < 4
    after = str(tmp_path / "run/checkpoints/00000002.ckpt")
    run(config, output=tmp_path / "again", resume=after, device="cpu", console=quiet)
    again = tmp_path / "again/model.safetensors"
    assert again.read_bytes() == (tmp_path / "run/model.safetensors").read_bytes()
