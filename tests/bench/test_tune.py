"""The sweep over kernel configurations: what it refuses, lists, checks and proposes. Nothing here needs a GPU."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="what is swept are Triton kernels")

from bench import tune
from bench.tuning import report, shapes
from bench.tuning.choices import Choice, attempt, choices
from bench.tuning.compiling import tasks_of
from bench.tuning.shapes import SHAPES, Place
from bench.tuning.timing import Found, difference, measure
from sr_kernels.content_stats.tiling import Config

ROOT = Path(__file__).parents[2]
META = Place("meta", torch.bfloat16, 90)
POOLED = Config(8, 8)


def shape(name: str) -> Any:
    return next(one for one in SHAPES if one.name == name)


def choice(name: str = "stats_crops", candidates: tuple[Any, ...] = ()) -> Choice:
    return Choice(shape(name), "backward", "fine", (8,), POOLED, candidates)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["sharpen"], "no operation or shape named sharpen; operations: window_attention"),
        (["--seconds", "0"], "--seconds and --processes must be more than 0"),
        (["--dtype", "int8"], "invalid choice: 'int8'"),
    ],
)
def test_bad_arguments_are_one_clear_line(words, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        tune.main([*words, "--list"])
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(capsys):
    with pytest.raises(SystemExit):
        tune.main(["hat"])
    assert "needs a CUDA device" in capsys.readouterr().err.splitlines()[-1]


def test_the_list_names_every_kernel_of_a_shape(capsys):
    assert tune.main(["--list", "ocab", "content_stats"]) == 0
    printed = capsys.readouterr().out
    for kernel in ("forward", "table_backward", "keys_backward", "fold_keys", "fold_distances"):
        assert f"window_attention ocab {'forward' if kernel == 'forward' else 'backward'} {kernel} " in printed
    assert "content_stats stats_1080p forward statistics  class (8, 48)  14 candidates" in printed
    assert "hat" not in printed


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_every_launch_of_every_shape_can_be_chosen(dtype):
    fixed = set()
    place = Place("meta", shapes.DTYPES[dtype], 90)
    for one in SHAPES:
        known = {(c.passing, c.kernel) for c in choices(one, place)}
        for name, start in one.at(place).items():
            for launch in _all_launches(one.op, start):
                if (name, launch.choice) not in known:
                    fixed.add(launch.kernel.__name__)
    assert fixed == {"fold"}  # the stencils' table: k x k numbers in one program of a warp


def _all_launches(op: str, start: Any) -> list[Any]:
    from bench.tuning.choices import choosing

    with choosing(op, {}):
        return list(start())


@pytest.mark.parametrize("name", ["swinir", "hat", "nhwc64", "stencils64", "down_4k", "stats_crops", "restormer"])
def test_a_candidate_reaches_the_launches_of_its_kernel_and_no_others(name):
    one = shape(name)
    passes = one.at(META)
    for chosen in choices(one, META):
        _, before = attempt(one.op, passes[chosen.passing], META, {}, chosen.kernel)
        changed = 0
        for config in chosen.candidates[:12]:
            _, after = attempt(one.op, passes[chosen.passing], META, {chosen.kernel: config}, chosen.kernel)
            assert len(after) == len(before) > 0
            changed += _cut(after) != _cut(before)
        assert changed > 0, chosen.label


def _cut(launches: list[Any]) -> list[Any]:
    return [(launch.grid, launch.constants, launch.options) for launch in launches]


def test_the_static_configurations_stay_in_place_when_a_sweep_ends():
    before = _cut(_all_launches("content_stats", shape("stats_crops").at(META)["backward"]))
    attempt("content_stats", shape("stats_crops").at(META)["backward"], META, {"fold": Config(columns=64)}, "fold")
    from sr_kernels.content_stats import tiling

    assert tiling.choose("fold", tiling.Problem((1, 9, 9))) == Config(columns=256, warps=2)
    assert _cut(list(shape("stats_crops").at(META)["backward"]())) == before


def test_wrong_candidates_are_reported_and_never_timed(monkeypatch):
    right, wrong, slow, broken = (Config(4, 8, warps) for warps in (1, 2, 4, 8))

    def attempt(_op: str, _start: Any, _place: Any, forced: dict[str, Any], _kernel: str) -> Any:
        config = forced.get("fine", POOLED)
        if config == broken:
            raise RuntimeError("out of resource: shared memory")
        return torch.full((3,), 1.5 if config == wrong else 1.0), [SimpleNamespace(config=config)]

    def timer(launches: list[Any], _samples: int) -> float:
        return {POOLED: 2.0, right: 1.0, slow: 3.0}[launches[0].config]

    monkeypatch.setattr("bench.tuning.timing.attempt", attempt)
    place = Place("cpu", torch.float32, 90)
    tried = [wrong, right, broken, slow]
    found = measure(choice(), {"backward": lambda: None}, place, tried, 60, timer)  # type: ignore[arg-type, return-value]
    assert found.seconds == {POOLED: 2.0, right: 1.0, slow: 3.0}
    assert found.best == right
    assert found.off == 1.0
    assert found.wrong == {wrong: 0.5}
    assert "out of resource" in found.failed[broken]
    printed = "\n".join(report.lines(found))
    assert "100 % off the best (3 timed, 1 failed, 1 WRONG)" in printed
    assert f"WRONG by 5.0e-01: {wrong}" in printed
    record = json.loads(json.dumps(found.record()))
    assert record["microseconds"] == 2e6
    assert [one["microseconds"] for one in record["measured"]] == [1e6, 2e6, 3e6]


def test_time_that_runs_out_is_counted(monkeypatch):
    monkeypatch.setattr("bench.tuning.timing.attempt", lambda *_: (torch.ones(1), []))
    found = measure(choice(), {"backward": None}, META, [Config(1), Config(2)], 0.0, lambda *_: 1.0)  # type: ignore[dict-item]
    assert found.skipped == {"no time left to time": 2}
    assert found.off == 0


def test_nan_and_other_shapes_are_infinitely_wrong():
    one = [torch.ones(2)]
    assert difference(one, one) == 0
    assert difference([torch.tensor([1.0, float("nan")])], one) == float("inf")
    assert difference([torch.ones(3)], one) == float("inf")


def test_what_compiles_to_the_same_is_compiled_once():
    (chosen,) = (c for c in choices(shape("w12d64"), META) if c.kernel == "bias_backward")
    tasks = tasks_of([chosen], META)
    assert sum(len(served) for served in tasks.values()) == len(chosen.candidates) + 1
    cuts = {(c.queries, c.keys, c.warps, c.stages) for c in (chosen.default, *chosen.candidates)}
    assert len(cuts) <= len(tasks) < len(chosen.candidates) / 2
    assert next(iter(tasks)).config == chosen.default


def found(name: str, seconds: dict[Any, float]) -> Found:
    return Found(choice(name), seconds)


def test_one_entry_serves_all_shapes_of_a_class():
    a, b, c = Config(2), Config(4), Config(8, 16)
    first = found("stats_crops", {POOLED: 2.0, a: 1.0, b: 1.1, c: 1.9})
    second = found("stats_1080p", {POOLED: 1.0, a: 2.0, b: 1.1, c: 1.0})
    text = report.proposal([first, second])
    assert text.startswith("CONTENT_STATS = {\n")
    assert f"    ('fine', (8,)): {b!r}," in text
    assert "stats_crops 100 % -> 10 %, stats_1080p 0 % -> 10 %" in text
    names = {"Config": Config}
    assert eval(text.partition("=")[2], names) == {("fine", (8,)): b}


def test_a_default_within_ten_percent_is_left_alone():
    assert report.proposal([found("stats_crops", {POOLED: 1.09, Config(2): 1.0})]) == ""


def test_every_kernel_is_kept_at_once_and_a_dead_gpu_ends_the_sweep(monkeypatch, tmp_path, capsys):
    found = choices(shape("stats_crops"), META)
    path = tmp_path / "tune.json"
    kept: list[int] = []

    def measure(choice: Choice, _passes: Any, _place: Any, _ready: Any, seconds: float) -> Found:
        assert seconds <= 100 / (len(found) - len(kept))
        kept.append(len(json.loads(path.read_text())["classes"]) if path.exists() else 0)
        if choice == found[1]:
            raise RuntimeError("out of memory")
        if choice == found[3]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return Found(choice, {choice.default: 2e-6, choice.candidates[0]: 1e-6})

    monkeypatch.setattr("bench.tuning.timing.measure", measure)
    monkeypatch.setattr("bench.machine.fingerprint", lambda kind: {"device": kind})
    given = SimpleNamespace(json=path, dtype="bf16")
    skipped = {choice: Counter({"do not compile": 3}) for choice in found}
    ready = {choice: [] for choice in found}
    assert tune.sweep(found, ready, skipped, META, time.monotonic() + 100, given) == 1  # type: ignore[arg-type]
    assert kept == [0, 1, 1, 2]
    content = json.loads(path.read_text())
    assert [one["off_percent"] for one in content["classes"]] == [100.0, 100.0]
    assert content["classes"][0]["skipped"] == {"do not compile": 3}
    assert content["proposed"].startswith("CONTENT_STATS = {")
    printed = capsys.readouterr().out
    assert f"FAILED {found[3].label}: CUDA error" in printed
    assert printed.endswith(content["proposed"] + "\n")


def test_a_sweep_without_time_says_what_it_left(capsys):
    found = choices(shape("stats_crops"), META)
    assert tune.sweep(found, {}, {}, META, time.monotonic() - 1, SimpleNamespace(json=None)) == 0  # type: ignore[arg-type]
    assert f"no time left for {len(found)} of {len(found)} kernels" in capsys.readouterr().out


INTERPRETED = """
import torch
from bench.tuning.choices import choices
from bench.tuning.shapes import Place, Shape, channel_attention, content_stats, magic_resample, window_attention
from bench.tuning.timing import measure

place = Place("cpu", torch.float32, 90)
for op, make, values in (
    ("content_stats", content_stats, (1, 9, 10, 8)),
    ("magic_resample", magic_resample, ((3, 4, 5), 2, False, "lags")),
    ("channel_attention", channel_attention, (1, 16, "nhwc", 4)),
    ("window_attention", window_attention, ({"size": 8}, 1, 10, 8)),
):
    shape = Shape(op, "tiny", make, values)
    passes = shape.at(place)
    for choice in choices(shape, Place("meta", torch.float32, 90)):
        if choice.kernel in ("fold", "upscale", "mix", "forward", "lags"):
            found = measure(choice, passes, place, list(choice.candidates[:2]), 600, lambda launches, _: len(launches))
            print(choice.kernel, len(found.seconds), found.wrong, found.failed)
"""


@pytest.mark.slow
def test_kernels_run_through_the_sweep_in_the_interpreter():
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ".:kernels"}
    command = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernels = ["fold", "lags", "upscale", "lags", "mix", "forward", "forward"]  # training has a forward of its own
    assert done.stdout.splitlines() == [f"{kernel} 3 {{}} {{}}" for kernel in kernels]


COMPILED = """
import torch
from bench.tuning.compiling import Task, begin, compile_task, shapes
from bench.tuning.shapes import Place
from sr_kernels.content_stats.tiling import Config

begin(90)
number = next(i for i, shape in enumerate(shapes()) if shape.name == "stats_crops")
for config in (Config(columns=128, warps=1), Config(columns=100, warps=1)):
    outcome = compile_task((Task(number, "backward", "fold", config), Place("meta", torch.float32, 90)))
    print(outcome.shared, outcome.error)
"""


@pytest.mark.slow
def test_candidates_compile_without_a_gpu(tmp_path):
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": ".:kernels"}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", COMPILED]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    good, bad = done.stdout.splitlines()
    assert good == "0 None"
    assert "power of 2" in bad
    assert len(list(tmp_path.glob("*/*.cubin"))) == 1
