"""Two processes under a real torchrun train as one does, also when one is killed or their number changes.

Weights are float64, in the networks of the engine (double.py). In float32 the comparison would be a lottery: where a
gradient is near zero, Adam divides it by its own size, and two orders of summation disagree about it; or an activation
lies on its kink. One process alone, whose first weights differ by 3e-8 of themselves, ended 1e-7 to 1.8e-3 away from
itself in these settings after 20 steps, with one seed or another.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sr_engine.cli.main import main
from sr_engine.train.checkpoint import load_checkpoint

HERE = Path(__file__).parent
CONFIG = """
name: tiny
scale: 2
plugins: ["{plugin}"]
network_g: {{type: test_double}}
datasets:
  train: {{type: folder, path: "{pictures}"}}
losses:
  pixel: {{type: charbonnier}}
training:
  {{total_iter: 20, batch_size: 4, patch_size: 12, checkpoint_every: 8, precision: fp32, ema_decay: 0,
   optim_g: {optim}, optim_d: {optim}, scheduler: {{type: cosine, warmup_iter: 19}}}}
logging: {{print_every: 4, tensorboard: false}}
"""
OPTIM = "{type: AdamW, lr: 2e-3, betas: [0.9, 0.99]}"
GAN = [
    "network_d={type: test_double}",
    "training.optim_g.lr=2e-4",
    "training.optim_d.lr=2e-4",
    "losses.gan={loss_weight: {start_iter: 4, final_weight: 0.1, ramp: linear}}",
    "losses.feature_matching={loss_weight: {start_iter: 2, final_weight: 1.0, ramp: cosine, ramp_iters: 4}}",
]
CASES = {"plain": [], "accumulate": ["training.accumulate=2"], "gan": GAN}

MOMENTS = ("killed", "begun")  # as scale_runs.py prints them


def torchrun(script: Path, *arguments: str | Path, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Two processes on a free port; the package is found as pytest finds it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [f"--max-restarts={restarts}", str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)


class Runs:
    """The folders of all runs: `alone/...` of one process, `two/...` of two."""

    def __init__(self, root: Path, pictures: Path) -> None:
        self.root = root
        self.config = root / "config.yml"
        self.config.write_text(CONFIG.format(pictures=pictures, optim=OPTIM, plugin=HERE / "double.py"))
        for case in CASES:
            assert main(["train", *self.arguments("alone", case)]) == 0
        self._leave_first_checkpoint("alone/gan", "two/from one")
        jobs: list[dict[str, Any]] = [
            {"arguments": self.arguments("two", case), "counts": case != "gan"} for case in CASES
        ]
        jobs.append({"arguments": self.arguments("two", "gan", "from one")})
        jobs.append({"arguments": self.arguments("two", "gan", "killed"), "kill": [1, 13]})
        (root / "jobs.json").write_text(json.dumps(jobs))
        done = torchrun(HERE / "scale_runs.py", root / "jobs.json", restarts=1)
        self.printed = done.stdout
        assert done.returncode == 0, done.stderr[-4000:]
        self._leave_first_checkpoint("two/gan", "alone/from two")
        assert main(["train", *self.arguments("alone", "gan", "from two")]) == 0

    def arguments(self, where: str, case: str, name: str | None = None) -> list[str]:
        return arguments(self.config, self.root / where / (name or case), *CASES[case])

    def end(self, name: str) -> dict[str, Any]:
        return load_checkpoint(self.root / name / "checkpoints/00000020.ckpt")

    def log(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / name / "log.jsonl").read_text().splitlines()]

    def _leave_first_checkpoint(self, source: str, target: str) -> None:
        leave_first_checkpoint(self.root / source, self.root / target)


def arguments(config: Path, output: Path, *overrides: str) -> list[str]:
    """Of `sr-engine train`."""
    return [str(config), *overrides, "--output", str(output), "--device", "cpu"]


def leave_first_checkpoint(source: Path, target: Path) -> None:
    """So that a run in `target` continues the one in `source` after 8 iterations."""
    (target / "checkpoints").mkdir(parents=True)
    shutil.copy(source / "checkpoints/00000008.ckpt", target / "checkpoints")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Iterator[Runs]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Runs(tmp_path_factory.mktemp("scale"), pictures)
    torch.set_num_threads(threads)


def largest_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Over all weights of all networks, the averaged ones too."""
    pairs = [(a["generator"]["net"], b["generator"]["net"]), (a["ema"]["net"], b["ema"]["net"])]
    if a["discriminator"] is not None:
        pairs.append((a["discriminator"]["net"], b["discriminator"]["net"]))
    return max((mine[name] - theirs[name]).abs().max().item() for mine, theirs in pairs for name in mine)


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_with_the_weights_of_one(runs, case):
    one, two = runs.end(f"alone/{case}"), runs.end(f"two/{case}")
    assert len(two["rng"]) == 2
    assert largest_difference(one, two) < 1e-5
    start = load_checkpoint(runs.root / "alone" / case / "checkpoints/00000008.ckpt")
    assert largest_difference(one, start) > 1e-4  # they have moved


def test_logs_are_of_the_whole_batch(runs):
    rows = zip(runs.log("alone/gan"), runs.log("two/gan"), strict=True)
    losses = [(a["losses"], b["losses"]) for a, b in rows if a["event"] == "train"]
    assert len(losses) == 5
    assert "d_loss" in losses[-1][0]
    for one, two in losses:
        assert one == pytest.approx(two, rel=1e-4, abs=1e-6)


def test_a_killed_process_is_started_again_and_the_run_ends_the_same(runs):
    assert same(runs.end("two/killed"), runs.end("two/gan"))
    assert largest_difference(runs.end("two/killed"), runs.end("alone/gan")) < 1e-5


def test_a_killed_process_leaves_no_doubled_rows(runs):
    clock = ("it_per_s", "data_wait")
    killed, whole = (
        [{key: value for key, value in row.items() if key not in clock} for row in runs.log(name)]
        for name in ("two/killed", "two/gan")
    )
    assert killed == whole
    assert [row["iter"] for row in killed if row["event"] == "train"] == [4, 8, 12, 16, 20]


def test_the_process_left_ends_soon_after_the_other_is_killed(runs):
    killed, begun = ([float(time) for time in re.findall(what + r" at ([\d.]+)", runs.printed)] for what in MOMENTS)
    assert len(killed) == 1
    assert len(begun) == 4  # two processes, twice
    assert 0 < max(begun) - killed[0] < 60


@pytest.mark.parametrize("name", ["alone/from two", "two/from one"])
def test_another_number_of_processes_continues_where_the_samples_were(runs, name):
    state = runs.end(name)
    assert state["batches"] == 20
    assert state["samples"] == 80
    assert largest_difference(state, runs.end("alone/gan")) < 1e-5


def test_parts_of_a_batch_are_exchanged_once(runs):
    """The reducer makes the buckets of the first iteration anew, so they may be others there."""
    counted = re.findall(r"rank (\d) exchanged (\d+) buckets, (\d+) bytes", runs.printed)
    assert len(counted) == 4  # two processes, in two runs
    assert len({counts[1:] for counts in counted}) == 1
    weights = sum(value.numel() * 8 for value in runs.end("two/plain")["generator"]["net"].values())
    assert int(counted[0][2]) == 20 * weights
