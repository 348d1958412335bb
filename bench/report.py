"""From results to documents: `python -m bench.report` writes docs/performance.md, its plots and the README's table.

    python -m bench.report              from bench/results/
    python -m bench.report --check      writes nothing; exit code 1 where a document says something else

Every device's newest results file counts; older ones fill in the cases it lacks, marked with their commit. The same
results give the same text. Plots need matplotlib, texts do not; `--check` compares texts and looks for missing plots.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import tables
from bench.gallery import Plot, plan
from bench.headline import headline
from bench.history import machines
from bench.record import RESULTS, ResultsError
from sr_engine.atomic import atomic_write

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- performance: begin -->", "<!-- performance: end -->"


class ReportError(Exception):
    """A document that does not take the report; one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder with a folder for each device")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--check", action="store_true", help="only say whether the documents are what the results give")
    options = parser.parse_args(arguments)
    try:
        return report(options.results, options.readme, options.output, check=options.check)
    except (ResultsError, ReportError) as error:
        print(error, file=sys.stderr)
        return 1


def report(results: Path, readme: Path, output: Path, *, check: bool) -> int:
    """Write or check the documents; raises ResultsError or ReportError, one sentence each."""
    if not results.is_dir():
        raise ReportError(f"{results}: no such folder; expected one with a folder of results for each device")
    found = machines(results)
    planned = plan(found)
    pictures = output.with_suffix("")
    links = {
        section: [(plot.title, f"{pictures.name}/{plot.file}") for plot in planned if plot.section == section]
        for section in dict.fromkeys(plot.section for plot in planned)
    }
    texts = {output: tables.page(found, links), readme: _with_block(readme, headline(found))}
    if check:
        _check(texts, pictures, {plot.file for plot in planned})
        return 0
    for path, text in texts.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    print(_draw(planned, pictures))
    return 0


def _with_block(readme: Path, block: str) -> str:
    """The README's text with the block between its markers replaced."""
    try:
        text = readme.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ReportError(f"{readme}: no such file; it needs the lines {BEGIN} and {END}") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ReportError(f"{readme}: expected the lines {BEGIN} and {END}, between which the table goes")
    return f"{before}{begin}\n{block}\n{end}{after}"


def _check(texts: dict[Path, str], pictures: Path, expected: set[str]) -> None:
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            raise ReportError(f"{path} is not what the results give: run `python -m bench.report` and commit it")
    there = {path.name for path in pictures.glob("*.png")}
    if missing := sorted(expected - there):
        raise ReportError(f"{pictures / missing[0]} is missing: run `python -m bench.report` with matplotlib installed")
    if stale := sorted(there - expected):
        raise ReportError(f"{pictures / stale[0]} belongs to no result: delete it")


def _draw(planned: Sequence[Plot], folder: Path) -> str:
    """Draw all plots; what to tell of it, in one line."""
    if not importlib.util.find_spec("matplotlib"):
        return "no plots: they need matplotlib, `pip install -e '.[bench]'`"
    from bench.plots import png

    for plot in planned:
        with atomic_write(folder / plot.file) as temporary:
            temporary.write_bytes(png(plot))
    return f"drew {len(planned)} plots in {folder}"


if __name__ == "__main__":
    raise SystemExit(main())
