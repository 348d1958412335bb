"""The benchmarks themselves: every case runs, wrong results get no time, what was measured is kept with its machine.

They run in processes of their own, as smoke runs, with results nowhere unless a test reads them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import machine, record
from bench.race import Case, compete

Runs = list[tuple[subprocess.CompletedProcess[str], list[Path]]]

ROOT = Path(__file__).parents[2]
CASES = """
import pytest
import torch
from bench.devices import case
from bench.race import Case

@pytest.mark.parametrize("sign", [case("cpu", 1.0, id="right", quick=True), case("cpu", -1.0, id="flipped")])
def test_doubling(race, sign):
    x = torch.rand(8)
    peers = {"peer": lambda: x + x, "late": lambda: x * 2.5}
    race(Case("doubling", f"by {sign:+.0f}", moved=64), peers | {"ours": lambda: sign * 2 * x}, tolerance=1e-6)

def test_halving(race):
    x = torch.rand(8)
    race(Case("halving", "in two"), {"peer": lambda: x / 2, "ours": lambda: 0.5 * x}, tolerance=1e-6)
"""


def bench(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A smoke run of pytest with the fixtures of bench/."""
    given = {k: v for k, v in os.environ.items() if not k.startswith(("SR_BENCH_", "SR_KERNELS_"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), *filter(None, [given.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=given | {"PYTHONPATH": paths, "SR_BENCH_SMOKE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The three cases above, first the quick ones, then all into the same folder: each run and the results after it."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "test_small.py").write_text(CASES)
    where = {"SR_BENCH_RESULTS": str(folder / "results"), "SR_BENCH_COMMIT": "abc1234"}
    runs = []
    for i, quick in enumerate((["--quick"], [])):
        done = bench("-p", "bench.conftest", f"--rootdir={folder}", folder / "test_small.py", *quick, **where)
        copies = []
        for path in sorted((folder / "results").rglob("*.json")):
            copies.append(folder / str(i) / path.relative_to(folder / "results"))
            copies[-1].parent.mkdir(parents=True)
            copies[-1].write_bytes(path.read_bytes())
        runs.append((done, copies))
    return runs


def test_a_peer_with_a_flipped_sign_or_an_error_gets_no_time() -> None:
    x = torch.rand(8) + 1

    def fails() -> torch.Tensor:
        raise RuntimeError("no kernel for this shape")

    peers = {"right": lambda: x * 1.0, "flipped": lambda: -x, "fails": fails, "other": lambda: 1.1 * x}
    found = compete(
        Case("op", "title"),
        {**peers, "ours": lambda: x.clone()},
        reference=lambda: x.double(),
        tolerance=1e-6,
        loose={"other": 0.2},
        memory=False,
        rounds=2,
    )
    assert set(found.seconds) == {"right", "other", "ours"}
    assert "differs by 2.0e+00" in found.dropped["flipped"]
    assert "no kernel for this shape" in found.dropped["fails"]
    assert found.error["other"] == pytest.approx(0.1, rel=1e-3)


def test_ours_with_a_flipped_sign_is_an_error() -> None:
    x = torch.rand(8)
    with pytest.raises(AssertionError, match="ours differs by 2"):
        compete(Case("op", "title"), {"peer": lambda: x, "ours": lambda: -x}, tolerance=1e-6, rounds=1)


def test_without_a_reference_the_first_that_runs_is_the_oracle() -> None:
    x = torch.rand(8)

    def fails() -> torch.Tensor:
        raise RuntimeError("no memory")

    rest = {"other": lambda: 2 * x, "peer": lambda: x, "ours": lambda: x}
    found = compete(Case("op", "title"), {"first": fails, **rest}, tolerance=1e-6, loose={"other": None}, rounds=1)
    assert set(found.seconds) == {"other", "peer", "ours"}
    assert found.unchecked == {"other"}
    assert found.error == {"ours": 0.0}
    with pytest.raises(AssertionError, match="nothing to compare ours with"):
        compete(Case("op", "title"), {"first": fails, "ours": lambda: x}, tolerance=1e-6, rounds=1)
    with pytest.raises(AssertionError, match="no tensor to compare"):
        compete(Case("op", "title"), {"peer": lambda: None, "ours": lambda: None}, tolerance=1e-6, rounds=1)


def test_other_versions_get_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, beside = record.Results.open("cpu", tmp_path), record.Results.open("cpu", tmp_path)
    first.add({"key": "a"})
    beside.add({"key": "b"})  # of a process that started before "a" was written
    assert [case["key"] for case in record.load(first.path)["cases"]] == ["a", "b"]
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "0.1"})
    other = record.Results.open("cpu", tmp_path)
    other.add({"key": "a"})
    assert other.path != first.path
    assert record.Results.open("cpu", tmp_path).path == other.path
    assert len(record.load(first.path)["cases"]) == 2


def test_quick_selects_only_quick_cases(small_runs: Runs) -> None:
    done, _ = small_runs[0]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 2 deselected" in done.stdout


def test_a_results_file_names_commit_and_machine(
    small_runs: Runs,
) -> None:
    _, (path,) = small_runs[0]
    content = record.load(path)
    assert content["commit"] == "abc1234"
    assert "abc1234" in path.name
    assert path.parent.name == content["machine"]["folder"]
    assert content["machine"]["cpu"] == machine.fingerprint("cpu")["cpu"]
    assert content["versions"]["torch"] == torch.__version__
    (case,) = content["cases"]
    assert case["key"] == "doubling | by +1 | forward | float32 | cpu"
    assert set(case["contestants"]) == {"peer", "ours"}
    assert set(case["dropped"]) == {"late"}
    assert case["contestants"]["ours"]["samples"] >= 2


def test_a_second_run_merges_and_a_wrong_result_is_not_kept(
    small_runs: Runs,
) -> None:
    done, (path,) = small_runs[1]
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ours differs by" in done.stdout
    assert [case["title"] for case in record.load(path)["cases"]] == ["by +1", "in two"]


def test_every_quick_case_runs() -> None:
    done = bench("bench", "--benchmark-only", "--quick")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout


@pytest.mark.slow
def test_every_case_runs() -> None:
    done = bench("bench", "--benchmark-only")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout
