"""Pruning in a run: how far it goes, what goes along, that continued runs agree, and what goes without saying."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from sr_engine.compress import cut_network
from sr_engine.config.load import dump_config, load_config
from sr_engine.errors import CheckpointError
from sr_engine.layers.reparam import folded_parameters
from sr_engine.models.files import load_model, read_model_file, save_model
from sr_engine.models.generator import Generator
from sr_engine.train import run
from sr_engine.train.checkpoint import load_checkpoint
from sr_engine.train.prune import Pruning, doomed, parameters_of, pruned_state
from sr_engine.train.session import Session
from tests.train.cut_runs import CPU, GRADUAL, ONCE, SMALL, WHOLE, cut_of, pair, pruned_rows
from tests.train.staged import assert_equal, rows


def _step(session: Session) -> None:
    session.steps.run(pair(session.iteration), session.iteration, lr_g=1e-2, lr_d=0.0, next_pair=lambda: pair(0))
    session.iteration += 1


@pytest.mark.parametrize(("section", "ratio", "turns"), [(ONCE, 0.35, [4]), (GRADUAL, 0.5, [2, 5, 8])])
def test_a_run_ends_as_small_as_asked_for_and_says_when(tmp_path, make_config, section, ratio, turns):
    console = Console(record=True, width=200, file=io.StringIO())
    run(make_config(*SMALL, section), output=tmp_path, device="cpu", console=console)
    whole = WHOLE.spec.parameters
    found = pruned_rows(tmp_path)
    assert [row["iter"] for row in found] == turns
    assert found[0]["parameters_before"] == whole
    sizes = [row["parameters_after"] for row in found]
    text = console.export_text()
    for row in found:
        before, after = f"{row['parameters_before']:,}", f"{row['parameters_after']:,}"
        assert f"pruned at iteration {row['iter']}: {before} parameters before, {after} after" in text
    steps = len(turns)
    targets = [ratio * (1 - (1 - k / steps) ** 3) for k in range(1, steps + 1)]
    assert [1 - size / whole for size in sizes] == pytest.approx(targets, abs=0.03)
    file = read_model_file(tmp_path / "model.safetensors")
    assert file.spec.parameters == sizes[-1] == folded_parameters(load_model(tmp_path))
    noted = file.spec.training["pruned"]
    assert (noted["parameters_before"], noted["parameters_after"], noted["turns"]) == (whole, sizes[-1], steps)
    written = load_config(tmp_path / "config.yml")
    assert written.network_g.arguments.get("inner") is None  # the folder keeps what was asked for
    assert written.prune is not None


@pytest.mark.parametrize(
    "overrides",
    [
        (ONCE,),
        (GRADUAL, "training.precision=bf16", "training.accumulate=2"),
        (ONCE, "training.optim_g={type: SGD, lr: 1e-2, momentum: 0.9}", "prune.criterion=l2"),
    ],
    ids=["once", "gradual", "sgd"],
)
def test_continued_before_at_between_and_after_turns_equals_uninterrupted(tmp_path, make_config, quiet, overrides):
    config = make_config(*SMALL, *overrides, "training.checkpoint_every=1", "training.keep_last=10")
    whole = tmp_path / "whole"
    run(config, output=whole, device="cpu", console=quiet)
    end = load_checkpoint(whole / "checkpoints/00000010.ckpt")
    assert end["layout"] is not None
    for iteration in (1, 4, 5, 9):  # of gradual: before, pulled on what goes, at a turn, after all
        parts = tmp_path / f"from{iteration}"
        torch.rand(iteration)  # whatever happens in between must not matter
        run(config, output=parts, resume=str(whole / f"checkpoints/{iteration:08}.ckpt"), device="cpu", console=quiet)
        assert_equal(load_checkpoint(parts / "checkpoints/00000010.ckpt"), end)
        assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        assert rows(parts) == [
            row
            for row in rows(whole)
            if row["iter"] > iteration or (row["iter"] == iteration and row["event"] == "pruned")
        ]


def test_a_turn_made_again_stands_in_the_log_once(tmp_path, make_config, quiet):
    config = make_config(*SMALL, ONCE, "training.checkpoint_every=4", "training.total_iter=5")
    run(config, output=tmp_path, device="cpu", console=quiet)
    before = rows(tmp_path)
    for name in ("checkpoints/00000005.ckpt", "model.safetensors"):  # as if the machine had gone down
        (tmp_path / name).unlink()
    run(config, output=tmp_path, device="cpu", console=quiet)
    assert rows(tmp_path) == before
    assert [row["iter"] for row in pruned_rows(tmp_path)] == [4]


def test_weights_average_and_moments_that_are_kept_are_the_same_numbers(make_config):
    session = Session(make_config(*SMALL, ONCE), CPU)
    for _ in range(3):
        _step(session)
    session.best = 2, 99.0
    net, cut = session.net_g, cut_of(session.net_g)
    state = session.state_dict()
    smaller = Session(session.run, CPU, pruned_state(state, net, cut))
    assert smaller.iteration == 3
    assert smaller.layout is not None
    assert smaller.best is None
    assert smaller.steps.ema.updates == session.steps.ema.updates
    masks, old, new = doomed(net, cut), parameters_of(net), parameters_of(smaller.net_g)
    memory, memories = session.steps.generator.optimizer.state, smaller.steps.generator.optimizer.state
    averages = [session.steps.ema.net.state_dict(), smaller.steps.ema.net.state_dict()]
    compared = 0
    for name, parameter in old.items():
        # The wide branch of a re-parameterised convolution is no part of the axes: its own width follows its sides.
        if name.endswith(("squeeze", "spread")):
            continue
        kept = masks[name] == 0 if name in masks else torch.ones_like(parameter, dtype=torch.bool)
        for key in ("exp_avg", "exp_avg_sq"):
            theirs = memories[new[name]][key]
            assert theirs.stride() == new[name].stride()  # fused AdamW walks through both as they lie in memory
            assert torch.equal(theirs.flatten(), memory[parameter][key][kept])
            compared += int(kept.sum())
        assert memories[new[name]]["step"] == 3
        if not name.endswith(("weight", "pointwise")) or ".convs." not in name:
            assert torch.equal(new[name].detach().flatten(), parameter.detach()[kept])
            assert torch.equal(averages[1][name].flatten(), averages[0][name][kept])
    assert compared > 5000
    # The average, too, computes what the average of the unpruned network computes without these channels.
    with torch.no_grad():
        x = pair(5).lr
        expected = cut_network(session.steps.ema.net, cut)(x)
        torch.testing.assert_close(smaller.steps.ema.net(x), expected, rtol=1e-5, atol=1e-6)
    _step(smaller)  # and they fit


def test_memory_of_an_optimiser_that_is_no_number_for_each_weight_begins_anew(make_config):
    adafactor = "training.optim_g={type: Adafactor, lr: 1e-2}"
    session = Session(make_config(*SMALL, ONCE, adafactor), CPU)
    for _ in range(2):
        _step(session)
    smaller = Session(session.run, CPU, pruned_state(session.state_dict(), session.net_g, cut_of(session.net_g)))
    remembered = {
        name for name, p in parameters_of(smaller.net_g).items() if p in smaller.steps.generator.optimizer.state
    }
    assert "tail.bias" in remembered
    assert "tail.weight" not in remembered
    _step(smaller)


PULL = "prune={ratio: 0.4, start_iter: 8, batches: 1, regularise: 0.3}"


def test_the_pull_grows_and_is_on_what_goes_alone(make_config):
    session = Session(make_config(*SMALL, PULL, "training.total_iter=9"), CPU)
    pruning = session.pruning
    assert pruning is not None
    assert [it for it in range(9) if pruning.due(it)] == [4, 5, 6, 7, 8]
    assert pruning.work(session.net_g, 4, lambda count: [pair(k) for k in range(count)]) is None
    assert not pruning.due(5)
    parameters, masks = pruning._pulled
    before = [p.detach().clone() for p in parameters]
    assert sum(int(mask.sum()) for mask in masks) > 1000
    for it in range(4, 8):
        pruning.pull(it)
    left = (1 - 0.3 / 4) * (1 - 0.6 / 4) * (1 - 0.9 / 4) * (1 - 0.3)
    for parameter, mask, value in zip(parameters, masks, before, strict=True):
        torch.testing.assert_close(parameter.detach(), torch.where(mask == 1, value * left, value))


def test_what_is_pulled_on_is_small_when_it_goes_in_a_run(tmp_path, make_config, quiet, monkeypatch):
    sizes: dict[str, list[float]] = {}

    def work_and_look(self, net, it, batches):
        made = work(self, net, it, batches)
        if made is not None:
            masks, parameters = doomed(net, made), parameters_of(net)
            for gone, name in ((1, "goes"), (0, "stays")):
                parts = [parameters[key].detach()[mask == gone] for key, mask in masks.items()]
                sizes.setdefault(name, []).append(torch.cat(parts).abs().mean().item())
        return made

    work = Pruning.work
    monkeypatch.setattr(Pruning, "work", work_and_look)
    for regularise in (0.0, 0.5):
        config = make_config(*SMALL, PULL, f"prune.regularise={regularise}", "training.total_iter=9")
        run(config, output=tmp_path / str(regularise), device="cpu", console=quiet)
    assert sizes["goes"][1] < 0.5 * sizes["goes"][0]
    assert sizes["stays"][1] == pytest.approx(sizes["stays"][0], rel=0.1)


def _teacher_of(path: Path, net: Generator) -> Path:
    nn.init.normal_(net.tail.weight, std=0.05)
    save_model(path, net)
    return path


def test_the_unpruned_network_may_be_the_teacher(tmp_path, make_config, quiet):
    torch.manual_seed(3)
    whole = _teacher_of(tmp_path / "whole.safetensors", Generator(scale=2, preset="nano", width=16, stages=2))
    kept = f"distill={{teacher: {whole}, loss_weight: 0.5, cache: uint8, cache_folder: {tmp_path / 'kept'}}}"
    config = make_config(*SMALL, ONCE, f"load_from={whole}", kept)
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    trained = [row for row in rows(tmp_path / "run") if row["event"] == "train"]
    assert all(row["losses"]["distill"] > 0 for row in trained)
    file = read_model_file(tmp_path / "run/model.safetensors")
    assert file.spec.parameters < WHOLE.spec.parameters
    assert file.spec.training["distill"]["teacher"]["name"] == "whole.safetensors"


def test_the_best_model_is_of_the_network_as_it_is_now(tmp_path, make_config, quiet, pictures):
    validating = (f"datasets.val={{type: folder, path: '{pictures}'}}", "training.validate_every=2")
    rates = "training.optim_g={type: AdamW, lr: 1e-6}"  # validations before the turn stay the best ones ever
    config = make_config(*SMALL, *validating, rates, "prune={ratio: 0.6, start_iter: 5, batches: 1}")
    run(config, output=tmp_path, device="cpu", console=quiet)
    assert [row["best"] for row in rows(tmp_path) if row["event"] == "validation" and row["iter"] == 6] == [True]
    best = read_model_file(tmp_path / "best.safetensors")
    assert best.spec.parameters == pruned_rows(tmp_path)[0]["parameters_after"]


def test_a_pruned_run_prunes_no_more_where_the_section_is_taken_away(tmp_path, make_config, quiet):
    run(make_config(*SMALL, ONCE), output=tmp_path, device="cpu", console=quiet)
    size = read_model_file(tmp_path / "model.safetensors").spec.parameters
    run(make_config(*SMALL, "training.total_iter=11"), output=tmp_path, device="cpu", console=quiet)
    assert read_model_file(tmp_path / "model.safetensors").spec.parameters == size
    other = make_config(*SMALL, "network_g.width=20", "training.total_iter=12")
    with pytest.raises(CheckpointError, match="belongs to another network"):
        run(other, output=tmp_path, device="cpu", console=quiet)


SCRIPT = """
import os
import torch
from pathlib import Path
from rich.console import Console
import sr_engine.train
from sr_engine.config.load import load_config
from sr_engine.train.prune import Pruning
from sr_engine.train.session import Session

build, work, kept = Session.__init__, Pruning.work, {{}}

def build_and_keep(self, *arguments):
    build(self, *arguments)
    globals()["session"] = self

def work_and_keep(self, *arguments):
    cut = work(self, *arguments)
    kept.update({{}} if cut is None else cut.kept)
    return cut

Session.__init__, Pruning.work = build_and_keep, work_and_keep
torch.set_num_threads(1)
output = Path({output!r})
sr_engine.train.run(load_config({config!r}), output=output, device="cpu", console=Console(quiet=True))
steps = session.steps
moments = list(steps.generator.optimizer.state.values())
torch.save((kept, steps.generator.net.state_dict(), steps.ema.net.state_dict(), moments),
           output / f"rank{{os.environ['RANK']}}.pt")
"""


def test_two_processes_cut_alike(tmp_path, make_config):
    pruning = "prune={ratio: 0.35, start_iter: 3, batches: 2, regularise: 0.1}"
    config = make_config(*SMALL, pruning, "training.total_iter=5")
    (tmp_path / "c.yml").write_text(dump_config(config), encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(output=str(tmp_path / "run"), config=str(tmp_path / "c.yml")), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = (torch.load(tmp_path / f"run/rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first[0].keys() >= {"width", "body.0.inner0", "body.1.inner1"}
    assert_equal(first, second)
    (row,) = pruned_rows(tmp_path / "run")  # one process writes
    assert 1 - row["parameters_after"] / row["parameters_before"] == pytest.approx(0.35, abs=0.03)
