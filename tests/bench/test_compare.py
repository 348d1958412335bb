"""The comparison: a change counts beyond the noise of both results, and where the ratio to the baseline agrees."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.compare import main, moved, noise
from tests.bench.samples import CPU, GPU, case, contestant, results, write

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Compare two lists of cases of one machine."""

    def call(old: list[dict[str, Any]], new: list[dict[str, Any]], *flags: str) -> int:
        before = write(tmp_path, results(CPU, old, commit="0ldc0de"))
        after = write(tmp_path, results(CPU, new, commit="newc0de", day="2026-11-21"))
        return main([str(before), str(after), *flags])

    return call


def pair(eager: float, ours: float, **options: Any) -> list[dict[str, Any]]:
    return [case("a", {"eager": contestant(eager, **options), "ours": contestant(ours, **options)})]


def cells(output: str) -> list[list[str]]:
    """The lines of the table, without its head."""
    lines = [line for line in output.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_a_regression_beyond_the_noise_fails(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pair(10, 5), pair(10, 6)) == 1
    output = capsys.readouterr().out
    expected = ["window_attention, a, forward, float32, cpu", "1.20x slower", "2.00x to 1.67x (eager)", "1.00x"]
    assert cells(output) == [[*expected, "eager 1.00x", "**slower**"]]
    assert "Ours: 1 slower, 0 faster, 0 without a change beyond the noise." in output


def test_a_regression_within_the_noise_passes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pair(10, 5, spread=0.4), pair(10, 6, spread=0.4)) == 0
    [line] = cells(capsys.readouterr().out)
    assert line[1] == "1.20x"
    assert line[-1] == ""


def test_an_improvement_is_marked_and_passes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pair(10, 6), pair(10, 5)) == 0
    [line] = cells(capsys.readouterr().out)
    assert (line[1], line[-1]) == ("0.83x faster", "**faster**")


def test_a_slower_machine_is_no_regression(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pair(10, 5), pair(13, 6.5)) == 0
    [line] = cells(capsys.readouterr().out)
    assert line[1:] == ["1.30x slower", "2.00x to 2.00x (eager)", "1.00x", "eager 1.30x slower", "time alone changed"]


def test_a_faster_baseline_is_no_regression(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pair(10, 5), pair(7, 5)) == 0
    assert cells(capsys.readouterr().out)[0][-1] == "ratio alone changed"


def test_without_a_baseline_in_both_the_time_decides(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    alone = [case("a", {"ours": contestant(6)}, dropped={"eager": "OutOfMemoryError"})]
    assert run(pair(10, 5), alone) == 1
    [line] = cells(capsys.readouterr().out)
    assert line[2] == ""


@pytest.mark.parametrize(("ratio", "code"), [(1.2, 0), (1.5, 1)])
def test_one_sample_is_not_taken_for_certainty(run: Run, ratio: float, code: int) -> None:
    single = {"samples": 1, "spread": 0.0}
    assert run(pair(10, 5, **single), pair(10, 5 * ratio, **single)) == code
    assert run(pair(10, 5, spread=0.0), pair(10, 5 * ratio, spread=0.0)) == 1


def test_changes_below_the_threshold_are_never_marked(run: Run) -> None:
    assert run(pair(10, 5, spread=0.0), pair(10, 5.2, spread=0.0)) == 0
    assert run(pair(10, 5, spread=0.0), pair(10, 5.2, spread=0.0), "--threshold", "0.01") == 1


def test_noise_adds_up_by_squares() -> None:
    calm, wild = contestant(1.0, spread=0.12), contestant(1.0, spread=0.16)
    assert noise(wild) == pytest.approx(0.08)
    assert moved(1.101, (calm, wild), 0.01) == 1
    assert moved(1.099, (calm, wild), 0.01) == 0
    assert moved(1 / 1.101, (calm, wild), 0.01) == -1


def test_cases_that_come_and_go_are_listed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    other = [case(name, {"ours": contestant(1)}) for name in ("b 2", "b 10")]
    assert run([*pair(10, 5), *other], [*pair(10, 5), case("c", {"ours": contestant(1)})]) == 0
    output = capsys.readouterr().out
    named = "window_attention | {} | forward | float32 | cpu"
    assert f"Appeared:\n\n- {named.format('c')}\n" in output
    assert f"Disappeared:\n\n- {named.format('b 2')}\n- {named.format('b 10')}\n" in output


def test_a_folder_stands_for_its_newest_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day, ours in (("2026-11-22", 9), ("2026-11-20", 5), ("2026-11-21", 6)):
        write(tmp_path / "new", results(CPU, pair(10, ours), day=day, commit=f"c{day[-2:]}"))
    old = write(tmp_path / "old", results(CPU, pair(10, 9)))
    assert main([str(old), str(tmp_path / "new" / CPU.replace(" ", "_"))]) == 0
    assert "# aaaaaaa (2026-11-20, Some CPU, 2 cores) to c22 (2026-11-22" in capsys.readouterr().out


def test_other_versions_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = results(CPU, pair(10, 5))
    new = results(CPU, pair(10, 5), day="2026-11-21", versions=old["versions"] | {"torch": "2.14.1", "numpy": "2"})
    assert main([str(write(tmp_path, content)) for content in (old, new)]) == 0
    assert "Other versions: torch 2.11.0 to 2.14.1, numpy none to 2." in capsys.readouterr().out


def test_another_machine_is_refused_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(write(tmp_path, results(name, pair(10, 5)))) for name in (CPU, GPU)]
    assert main(paths) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f"measured on another machine (device {GPU}, not {CPU}); --other-machine compares all the same"
    )
    assert main([*paths, "--other-machine"]) == 0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("gone.json", None, "no such results file"),
        ("bad.json", "{", "expected results as JSON"),
        ("other.json", '{"schema": 7}', 'expected results with "schema": 1'),
        ("empty", "folder", "expected a results file or a device's folder with some"),
        ("apart.json", json.dumps(results(CPU, [case("b", {"ours": contestant(1)})])), "no case in common"),
    ],
)
def test_errors_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, said: str
) -> None:
    path = tmp_path / name
    if text == "folder":
        path.mkdir()
    elif text is not None:
        path.write_text(text, encoding="utf-8")
    assert main([str(write(tmp_path, results(CPU, pair(10, 5)))), str(path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert name in line or name == "apart.json"
