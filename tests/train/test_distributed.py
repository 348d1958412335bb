"""Two processes that train one network."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sr_engine.config.load import dump_config
from sr_engine.config.schema import Config
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator
from sr_engine.train import run
from sr_engine.train.checkpoint import load_checkpoint
from sr_engine.train.distributed import World
from sr_engine.train.session import Session

MakeConfig = Callable[..., Config]

# Each rank writes the weights it ends with. With an argument, rank 1 alone gets a signal in the third iteration.
SCRIPT = """
import os, signal, sys, runpy
from pathlib import Path
import torch
from rich.console import Console
runpy.run_path({conftest!r})  # registers the small network
from sr_engine.config.load import load_config
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator
from sr_engine.train import run
from sr_engine.train.session import Session
from sr_engine.train.steps import Steps

torch.set_num_threads(1)
rank, output = int(os.environ["RANK"]), Path({output!r})
interrupt = len(sys.argv) > 1
launch_step, build = Steps.launch, Session.__init__

def launch_and_signal(self, pair, it, **arguments):
    if interrupt and rank == 1 and it == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return launch_step(self, pair, it, **arguments)

def build_and_keep(self, *arguments):
    build(self, *arguments)
    globals()["session"] = self

Steps.launch, Session.__init__ = launch_and_signal, build_and_keep
try:
    run(load_config({config!r}), output=output, device="cpu", console=Console(quiet=True))
except KeyboardInterrupt:
    assert interrupt
torch.save([p.detach() for p in session.net_g.parameters()], output / f"rank{{rank}}.pt")
"""


def _torchrun(*arguments: str | Path) -> None:
    # A new group of processes on a free port; the package is found as pytest finds it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture
def setting(tmp_path: Path, make_config: MakeConfig) -> tuple[Config, Path, Path]:
    """A GAN configuration, the folder of its run, and the script to train it with."""
    options = ("training.total_iter=6", "network_g.dropout=0.0", "training.net_d_iters=2", "training.accumulate=2")
    config = make_config(*options, gan=True)
    output, script = tmp_path / "run", tmp_path / "script.py"
    output.mkdir()
    (tmp_path / "config.yml").write_text(dump_config(config))
    names = {"conftest": str(Path(__file__).with_name("conftest.py")), "config": str(tmp_path / "config.yml")}
    script.write_text(SCRIPT.format(output=str(output), **names))
    return config, output, script


def _weights(output: Path) -> list[list[torch.Tensor]]:
    return [torch.load(output / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def _losses(output: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [row["losses"] for row in rows if row["event"] == "train" and "gan" in row["losses"]]


def test_two_processes_train_as_one_and_end_with_equal_weights(setting, tmp_path, quiet):
    config, output, script = setting
    _torchrun(script)
    first, second = _weights(output)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    state = load_checkpoint(output / "checkpoints/00000006.ckpt")
    assert len(state["rng"]) == 2
    assert torch.equal(state["generator"]["net"]["first.weight"], first[0])
    assert (output / "model.safetensors").exists()

    run(config, output=tmp_path / "alone", device="cpu", console=quiet)
    for apart, together in zip(_losses(tmp_path / "alone"), _losses(output), strict=True):
        for name in ("pixel", "gan", "feature_matching", "d_loss"):
            assert together[name] == pytest.approx(apart[name], rel=1e-3)


def test_the_demo_trains_in_two_processes(tmp_path):
    demo = Path(__file__).parents[2] / "configs" / "x4.yml"
    smaller = ("training.total_iter=4", "training.batch_size=4", "training.patch_size=12", "network_g.preset=nano")
    quicker = ("training.scheduler.warmup_iter=0", "logging.print_every=2", "datasets.val=null")
    output = tmp_path / "run"
    _torchrun("-m", "sr_engine", "train", demo, *smaller, *quicker, "--output", output, "--device", "cpu")
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [row["iter"] for row in rows if row["event"] == "train"] == [2, 4]  # one process writes
    assert (output / "model.safetensors").exists()


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_after_the_same_iteration(setting):
    _, output, script = setting
    _torchrun(script, "interrupt")
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["00000003.ckpt"]
    _torchrun(script)
    first, second = _weights(output)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert len((output / "log.jsonl").read_text().splitlines()) == 4  # one writer: train twice, validation, finished


def test_two_processes_share_the_work_of_a_teacher_and_hear_the_same(setting, tmp_path, make_config, quiet):
    _, output, script = setting
    save_model(tmp_path / "wise.safetensors", Generator(scale=2, preset="nano", width=16, stages=1))
    options = ("training.total_iter=4", "network_g.dropout=0.0", "logging.print_every=1", "distill.cache=uint8")
    options += (f"distill.teacher={tmp_path / 'wise.safetensors'}",)
    one, two = (make_config(*options, f"distill.cache_folder={tmp_path / name}") for name in ("one", "two"))
    (tmp_path / "config.yml").write_text(dump_config(two), encoding="utf-8")
    _torchrun(script)
    run(one, output=tmp_path / "single", device="cpu", console=quiet)
    kept = [sorted((tmp_path / name).rglob("*.safetensors")) for name in ("one", "two")]
    assert len(kept[0]) == len(kept[1]) == 5
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*kept, strict=True))
    logs = [(folder / "log.jsonl").read_text().splitlines() for folder in (output, tmp_path / "single")]
    for together, apart in zip(*([json.loads(line)["losses"] for line in log[:4]] for log in logs), strict=True):
        assert together["distill"] == pytest.approx(apart["distill"], rel=1e-4)


def test_projections_of_features_learn_the_same_in_two_processes(tmp_path, make_config, quiet, setting):
    """With SGD, whose steps are as long as its gradients: Adam would make large ones of differences in rounding.

    The loss divides by the magnitude of the teacher's features in one pass, so passes are of one picture in both runs.
    """
    _, output, script = setting
    save_model(tmp_path / "wise.safetensors", Generator(scale=2, preset="nano", width=24, stages=1))
    options = (
        "training={total_iter: 4, batch_size: 4, patch_size: 12, precision: fp32, optim_g: {type: SGD, lr: 1.0}}",
        "network_g={type: generator, preset: nano, width: 16, stages: 1}",
        "datasets.val=null",
        f"distill={{teacher: {tmp_path / 'wise.safetensors'}, features: {{student: [0], teacher: [0]}}}}",
    )
    alone, config = (make_config(*options, f"training.accumulate={parts}") for parts in (4, 2))
    (tmp_path / "config.yml").write_text(dump_config(config), encoding="utf-8")
    _torchrun(script)
    run(alone, output=tmp_path / "single", device="cpu", console=quiet)
    one, two = (
        load_checkpoint(folder / "checkpoints/00000004.ckpt")["generator"] for folder in (tmp_path / "single", output)
    )
    begin = Session(config, World(torch.device("cpu"))).steps.generator.companion.state_dict()
    assert one["companion"].keys() == two["companion"].keys() == begin.keys() != set()
    for part in ("net", "companion"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, rtol=0, atol=1e-5)
    assert max(float((one["companion"][name] - value).abs().max()) for name, value in begin.items()) > 1e-3
