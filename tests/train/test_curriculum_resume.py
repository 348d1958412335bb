"""A run of several stages that is interrupted and continued, changed, or trained by two processes."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from sr_engine.config.load import dump_config
from sr_engine.errors import CheckpointError
from sr_engine.models.files import read_model_file
from sr_engine.train import run
from sr_engine.train.checkpoint import load_checkpoint
from sr_engine.train.steps import Steps
from tests.train.staged import NANO, STAGES, assert_equal, rows

CASES: dict[str, tuple[tuple[str, ...], bool]] = {
    "plain": ((), False),
    "accumulate_bf16": (("training.accumulate=2", "training.precision=bf16"), False),
    "gan": (("training.net_d_iters=2", "training.net_d_init_iters=1", "training.balance={every: 2}"), True),
    "in_memory": (("datasets.train.in_memory=true",), False),
}


@pytest.mark.parametrize("case", CASES)
def test_continued_in_any_stage_equals_uninterrupted(tmp_path, make_config, quiet, case):
    overrides, gan = CASES[case]
    config = make_config(*STAGES, *overrides, "training.checkpoint_every=1", "training.keep_last=9", gan=gan)
    whole = tmp_path / "whole"
    run(config, output=whole, device="cpu", console=quiet)
    end = load_checkpoint(whole / "checkpoints/00000007.ckpt")
    for iteration in (2, 4, 5):  # in a stage, between two, in the next one
        parts = tmp_path / f"from{iteration}"
        torch.rand(iteration)  # whatever happens in between must not matter
        run(config, output=parts, resume=str(whole / f"checkpoints/{iteration:08}.ckpt"), device="cpu", console=quiet)
        assert_equal(load_checkpoint(parts / "checkpoints/00000007.ckpt"), end)
        assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        assert rows(parts) == [row for row in rows(whole) if row["iter"] > iteration]


@pytest.mark.parametrize("iteration", [2, 4, 6])
def test_a_signal_in_any_iteration_loses_nothing(tmp_path, make_config, quiet, monkeypatch, iteration):
    config = make_config(*STAGES)
    run(config, output=tmp_path / "whole", device="cpu", console=quiet)
    launch = Steps.launch

    def launch_and_signal(self, pair, it, **arguments):
        if it == iteration - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return launch(self, pair, it, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Steps, "launch", launch_and_signal)
        with pytest.raises(KeyboardInterrupt):
            run(config, output=tmp_path / "parts", device="cpu", console=quiet)
    assert load_checkpoint(tmp_path / f"parts/checkpoints/{iteration:08}.ckpt")["iteration"] == iteration
    run(config, output=tmp_path / "parts", device="cpu", console=quiet)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    whole, parts = (tmp_path / name / "model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_a_finished_run_takes_another_stage(tmp_path, make_config, quiet):
    overrides = ("training.total_iter=4", "training.patch_size=10", "logging.print_every=2")
    run(make_config(NANO, *overrides), output=tmp_path / "a", device="cpu", console=quiet)
    run(make_config(*STAGES), output=tmp_path / "a", device="cpu", console=quiet)
    run(make_config(*STAGES), output=tmp_path / "b", device="cpu", console=quiet)
    assert_equal(*(read_model_file(tmp_path / name).state for name in "ab"))
    assert [row["iter"] for row in rows(tmp_path / "a") if row["event"] == "train"] == [2, 4, 6, 7]


def test_stages_that_are_done_cannot_change(tmp_path, make_config, quiet):
    config = make_config(*STAGES, "training.checkpoint_every=1", "training.keep_last=9")
    run(config, output=tmp_path / "a", device="cpu", console=quiet)
    at = {n: str(tmp_path / f"a/checkpoints/{n:08}.ckpt") for n in (3, 4, 5)}

    def resume(n: int, override: str) -> None:
        run(make_config(*STAGES, override), output=tmp_path / "b", resume=at[n], device="cpu", console=quiet)

    for n, iters in ((5, 5), (3, 2)):
        with pytest.raises(CheckpointError, match=r"training.curriculum says otherwise: leave stages that are done"):
            resume(n, f"training.curriculum.0.iters={iters}")
    with pytest.raises(CheckpointError, match="another network"):
        resume(3, "training.curriculum.0.scale=3")
    resume(5, "training.curriculum.1.optim_g.lr=1e-5")
    changed = [row for row in rows(tmp_path / "b") if row["event"] == "changed"]
    assert changed[0]["keys"][-1] == "training.curriculum.1.optim_g.lr: 0.0005 -> 1e-05"
    longer = make_config(*STAGES, "training.curriculum.0.iters=5")  # the stage at whose end the checkpoint was
    run(longer, output=tmp_path / "c", resume=at[4], device="cpu", console=quiet)
    assert [row["iter"] for row in rows(tmp_path / "c") if row.get("stage") == 1] == [5, 5]


def test_two_processes_train_as_one(tmp_path, make_config, quiet):
    config = make_config(*STAGES, "datasets.val=null", gan=True)
    (tmp_path / "c.yml").write_text(dump_config(config), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "sr_engine"]
    command += ["train", str(tmp_path / "c.yml"), "--device", "cpu", "--output", str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    run(config, output=tmp_path / "one", device="cpu", console=quiet)
    two, one = ([row for row in rows(tmp_path / name) if row["event"] == "train"] for name in ("two", "one"))
    assert [(row["iter"], row["scale"]) for row in two] == [(2, 2), (4, 2), (6, 4), (7, 4)]
    for apart, together in zip(one, two, strict=True):
        for name in together["losses"].keys() - {"d_loss", "d_real", "d_fake"}:  # those are of one process alone
            assert together["losses"][name] == pytest.approx(apart["losses"][name], rel=1e-2)
    assert len(load_checkpoint(tmp_path / "two/checkpoints/00000007.ckpt")["rng"]) == 2
