"""The report: newest results first, nothing typed, nothing claimed that was not measured, the same text every time."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.report import BEGIN, END, ROOT, main
from tests.bench.samples import CPU, GPU, case, contestant, results, two_devices, write

Run = Callable[..., int]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder with a README that takes the table."""
    (tmp_path / "README.md").write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    (tmp_path / "results").mkdir()
    return tmp_path


@pytest.fixture
def run(house: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The report of `house`; without plots unless `drawn`."""

    def call(*flags: str, drawn: bool = False) -> int:
        if not drawn:
            monkeypatch.setattr("bench.report._draw", lambda *_: "")
        paths = ["--results", house / "results", "--readme", house / "README.md", "-o", house / "docs" / "speed.md"]
        return main([*map(str, paths), *flags])

    return call


def page(house: Path) -> str:
    return (house / "docs" / "speed.md").read_text(encoding="utf-8")


def readme(house: Path) -> str:
    return (house / "README.md").read_text(encoding="utf-8")


def section(text: str, *headings: str) -> str:
    """What stands below the headings, one within the other."""
    for level, heading in enumerate(headings, 2):
        mark = "#" * level
        text = re.split(rf"^{mark} {re.escape(heading)}$", text, flags=re.M)[1]
        text = re.split(rf"^#{{2,{level}}} ", text, flags=re.M)[0]
    return text


def rows(text: str) -> list[list[str]]:
    """The cells of a table's lines, its head first."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_newest_results_count_and_older_ones_fill_in_with_their_commit(house: Path, run: Run) -> None:
    two_devices(house / "results")
    assert run() == 0
    head, hat, swinir = rows(section(page(house), "window_attention", GPU))
    assert head == [
        *("case", "work", "ours, ms", "eager", "flex", "compile", "memory, MB", "baseline / ours", "of the floor")
    ]
    assert swinir == [
        *("SwinIR 256x256", "forward, bfloat16", "0.0400 (0.0396 to 0.0404)", "**12.0x**"),
        *("left out", "6.00x", "8.00", "14.5x", "25 % (bytes)"),
    ]
    assert hat[0] == "HAT 256x256 (commit 0ldc0de, 2026-11-20)"
    assert "`flex` in SwinIR 256x256, forward, bfloat16: `NotImplementedError: head dim 10`" in page(house)
    assert "HAT 256x256, forward, bfloat16 (commit 0ldc0de, 2026-11-20)" in readme(house)


def test_a_case_that_is_slower_is_shown_as_slower(house: Path, run: Run) -> None:
    two_devices(house / "results")
    run()
    [line] = [line for line in rows(readme(house)) if CPU in line]
    assert line[3:5] == ["0.80x as fast as eager", "1.25x more"]


def test_what_a_device_lacks_is_said(house: Path, run: Run) -> None:
    two_devices(house / "results")
    run()
    assert section(page(house), "magic_resample", GPU).strip() == "Not measured."
    missing = section(page(house), "Not measured")
    assert re.search(rf"- {GPU}: nothing of .*\bmagic_resample\b", missing)
    assert f"- {CPU}: window_attention: HAT 256x256, forward; SwinIR 256x256, forward (measured on {GPU})" in missing
    assert re.search(rf"Not measured: .*\bmagic_resample\b.* on {GPU}", readme(house))
    assert f"{GPU}: not measured." in section(page(house), "Training throughput")


def test_a_headline_of_another_gpu_is_not_measured_here(house: Path, run: Run) -> None:
    two_devices(house / "results")
    other = case("SwinIR 256x256", {"eager": contestant(1.0), "ours": contestant(0.5)}, device="cuda", headline=True)
    write(house / "results", results("NVIDIA T1", [other], day="2026-11-22"))
    run()
    lines = [line for line in rows(readme(house)) if line[2] == "NVIDIA T1"]
    assert [(line[1], line[3], line[4]) for line in lines] == [
        ("SwinIR 256x256, forward, bfloat16", "2.00x as fast as eager", "the same"),
        ("HAT 256x256, forward, bfloat16", "not measured", "not measured"),
    ]


def test_kinds_of_devices_without_results_are_named(house: Path, run: Run) -> None:
    write(house / "results", results(CPU, [case("a", {"ours": contestant(1.0)})]))
    run()
    assert "- any CUDA device\n" in page(house)
    assert "any CUDA device" in readme(house)
    assert "NVIDIA" not in readme(house) + page(house)


def test_other_precisions_of_a_case_are_the_same_work_on_another_kind_of_device(house: Path, run: Run) -> None:
    for name, device in ((GPU, "cuda"), (CPU, "cpu")):
        both = {"eager": contestant(1.0), "ours": contestant(1.0)}
        write(house / "results", results(name, [case("same", both, device=device)]))
    run()
    assert "measured on" not in section(page(house), "Not measured")


def test_ceilings_and_training_are_taken_from_older_results_too(house: Path, run: Run) -> None:
    trained = [{"preset": "tiny", "iterations_per_second": 4.321}]
    write(house / "results", results(CPU, [], commit="0ldc0de", throughput=trained))
    rates = {"teraflops": {"bfloat16": 0.05}}
    write(house / "results", results(CPU, [], day="2026-11-21", ceilings=rates))
    run()
    assert ["copy, GB/s", "20.0"] in rows(section(page(house), "Machines"))
    assert ["matrix product, TFLOP/s", "bfloat16 0.0500, float32 0.100"] in rows(section(page(house), "Machines"))
    shown = section(page(house), "Training throughput", CPU)
    assert rows(shown)[1] == ["tiny", "4.32"]
    assert shown.strip().endswith("Measured at commit 0ldc0de, 2026-11-20.")


def test_a_case_measured_beside_other_work_says_so(house: Path, run: Run) -> None:
    both = {"eager": contestant(2.0), "ours": contestant(1.0)}
    cases = [case(title, both, headline=True, load=load) for title, load in (("calm", 2.2), ("crowded", 9.0))]
    write(house / "results", results(CPU, cases))
    run()
    assert [line[1] for line in rows(readme(house))[1:]] == [
        "calm, forward, float32",
        "crowded, forward, float32 (busy machine, load 9.00)",
    ]


def test_a_baseline_that_was_left_out_gives_no_ratio(house: Path, run: Run) -> None:
    dropped = {"baseline": "eager", "dropped": {"eager": "OutOfMemoryError: 90 GiB"}, "headline": True}
    write(house / "results", results(GPU, [case("a", {"ours": contestant(1.0)}, device="cuda", **dropped)]))
    run()
    [_, line] = rows(readme(house))
    assert line[3:5] == ["not measured against eager, which was left out", "not measured"]


def test_the_same_results_give_the_same_text_in_whatever_order_they_were_measured(house: Path, run: Run) -> None:
    two_devices(house / "results")
    run()
    first = page(house), readme(house)
    for path in (house / "results").glob("*/*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        content["cases"].reverse()
        path.write_text(json.dumps(content), encoding="utf-8")
    run()
    assert (page(house), readme(house)) == first
    assert readme(house).startswith("before\n\n")
    assert readme(house).endswith("\n\nafter\n")


def test_check_finds_a_document_that_says_something_else(
    house: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    write(house / "results", results(CPU, [case("a", {"ours": contestant(1.0)})]))
    assert run("--check") == 1
    capsys.readouterr()
    (plot,) = (house / "docs" / "speed").glob("*.png") if run() else [house / "docs" / "speed" / "roofline-x.png"]
    links = re.findall(r"!\[.*?\]\((.*?)\)", page(house))
    for link in links:
        (house / "docs" / link).parent.mkdir(exist_ok=True)
        (house / "docs" / link).touch()
    assert links
    assert run("--check") == 0
    assert capsys.readouterr().err == ""

    plot.touch()
    assert run("--check") == 1
    assert "roofline-x.png belongs to no result" in capsys.readouterr().err
    plot.unlink()
    (house / "docs" / links[0]).unlink()
    assert run("--check") == 1
    assert f"{links[0]} is missing" in capsys.readouterr().err

    (house / "README.md").write_text(readme(house).replace("1.00 ms", "0.50 ms"), encoding="utf-8")
    (house / "docs" / "speed.md").write_text(page(house) + "faster still\n", encoding="utf-8")
    assert run("--check") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{house / 'docs' / 'speed.md'} is not what the results give: run `python -m bench.report`")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda house: (house / "README.md").write_text("no markers"), f"README.md: expected the lines {BEGIN}"),
        (lambda house: (house / "README.md").unlink(), "README.md: no such file"),
        (lambda house: (house / "results").rmdir(), "results: no such folder"),
        (lambda house: _spoil(house, "{"), "bad.json: expected results as JSON"),
        (lambda house: _spoil(house, '{"schema": 99}'), 'bad.json: expected results with "schema": 1'),
    ],
    ids=["no markers", "no readme", "no results", "not JSON", "other schema"],
)
def test_errors_are_one_sentence(
    house: Path, run: Run, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], said: str
) -> None:
    spoil(house)
    assert run() == 1
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def _spoil(house: Path, text: str) -> None:
    (house / "results" / "device").mkdir()
    (house / "results" / "device" / "bad.json").write_text(text)


def test_without_matplotlib_the_tables_are_written(
    house: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    two_devices(house / "results")
    assert run(drawn=True) == 0
    assert "pip install -e '.[bench]'" in capsys.readouterr().out.splitlines()[-1]
    assert [path.name for path in (house / "docs").iterdir()] == ["speed.md"]
    assert GPU in page(house)


def test_many_cases_have_a_plot_for_each_kind_of_work(house: Path, run: Run) -> None:
    both = {"eager": contestant(2.0), "ours": contestant(1.0)}
    kinds = ("forward", "forward + backward")
    cases = [case(f"case {number}", both, kind=kind, flops=0) for number in range(13) for kind in kinds]
    write(house / "results", results(CPU, cases))
    run()
    assert re.findall(r"\((speed/.*?)\)", page(house)) == [
        "speed/window_attention-forward-some-cpu-2-cores.png",
        "speed/window_attention-forward-backward-some-cpu-2-cores.png",
    ]


def test_the_repository_shows_what_its_results_give(capsys: pytest.CaptureFixture[str]) -> None:
    if not any((ROOT / "bench" / "results").glob("*/*.json")):
        pytest.skip("bench/results has none yet")
    command = ["git", "status", "--porcelain", "bench/results"]
    if subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout:
        pytest.skip("bench/results has some that are not committed yet")
    assert main(["--results", str(ROOT / "bench" / "results"), "--check"]) == 0, capsys.readouterr().err
