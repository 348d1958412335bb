"""The page `docs/precision.md`, and the sentences by which the engine refuses what the page rules out."""

import math
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.banding import COLUMNS, MARGIN, RISE, ROWS, Banding, ideal
from bench.formats import QUANTILE, Format
from bench.tables import markdown_table, text_of
from sr_engine.infer.evaluate import EvalReport


@dataclass
class Row:
    """What was measured of a format. scores: by test set. milliseconds: of each round, none where not timed."""

    format: Format
    banding: Banding
    scores: dict[str, EvalReport]
    milliseconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Milliseconds of a call."""
        return statistics.median(self.milliseconds)


@dataclass
class Chosen:
    """The formats, and how the 8-bit ones came about. choices: PSNR-Y on the pictures kept for choosing, by kind of
    format and way to choose ranges, best first. integer_error: see `quantised.integer_error`. convolutions: how many
    were given the 8-bit formats."""

    formats: list[Format]
    choices: dict[str, dict[str, float]]
    integer_error: float
    convolutions: int


LITTLE = 0.05  # dB
REFUSED = {"int8": "INT8", "fp8": "FP8"}  # name of a precision and of the row that speaks for it

_INTRO = """\
# Number formats

What it costs `{model}` (x{scale}) to compute in other number formats than fp32. Made by the command below on {date}
(commit {commit}, {minutes:.0f} minutes); change it there, not here.

```
{command}
```
"""
_HOW = """\
## How it was measured

- **Scores**: the protocol of `sr-engine eval` (picture reduced with antialiased bicubic, results rounded to 8 bits, Y
  of BT.601, {scale} pixels left out at each border), means over {tests}. The worst picture is the one that loses most
  against fp32, of all test sets.
- **Gradient**: a ramp of {rise:g} levels of 255 over {columns} pixels, {rows} rows, given with 16 bits; the float
  result is compared with the exact ramp, without {margin} pixels at each edge. PSNR hardly sees what an eye sees in a
  sky: neighbouring pixels that should differ by {ideal:.3f} levels and differ by one. *Step* is the largest difference
  of neighbouring pixels; *8-bit levels* how many the rounded result has (exact: {levels:g}); *goes down* how often a
  row of it does, where the ramp only rises (exact: 0).
- **8-bit formats** are given to all {convolutions} convolutions of stem, body and tail, or to all but the first and
  the last; the classical upsampler, content statistics, activations and sums of feature maps stay in fp32. Weights
  have a scale for each output channel. Ranges of activations come from {calibration}; which way to choose them is best
  was decided on {held}, so that no test picture took part in it (all ways: below).
- **INT8**: static quantisation of onnxruntime (QDQ), run by its integer kernels. They differ from the same file
  computed step by step in fp32 by {integer:.2g} levels (root mean square); a sum that saturates, as it may on
  processors without VNNI, would show there.
- **Emulated**: inputs and weights of a convolution are rounded, FP8 through `torch.float8_e4m3fn`; products and sums
  are in fp32 and results are not rounded, which is the best that hardware could do. There is no file and no time.
- **fp16** on a CPU is computed as the engine does it on a GPU, by autocast; on CPUs the engine refuses it. Exported
  fp16 is what `sr-engine export --precision fp16` writes, of which onnxruntime computes on a CPU what it can.
- **Time**: a whole call on one picture of {side}x{side} pixels, 8 bits in and out, on {threads} threads; median (and
  20th to 80th percentile) of {rounds} rounds in which the formats take turns.
"""


def page(rows: Sequence[Row], chosen: Chosen, facts: dict[str, Any]) -> str:
    """The whole page; the first of `rows` is fp32, which the others are compared with."""
    first, (commit, changed) = rows[0], facts["commit"]
    counts = [f"{name} ({len(report.images)})" for name, report in first.scores.items()]
    limited = "" if facts["limit"] is None else f", the first {facts['limit']} pictures of each only"
    intro = _INTRO.format(
        model=facts["model"],
        scale=facts["scale"],
        date=facts["when"],
        commit=commit + (" with changes" if changed else ""),
        minutes=facts["minutes"],
        command=facts["command"],
    )
    exact = ideal(facts["scale"])
    how = _HOW.format(
        scale=facts["scale"],
        tests=" and ".join(counts) + limited,
        rise=RISE,
        columns=COLUMNS,
        rows=ROWS,
        margin=MARGIN,
        ideal=exact.step,
        levels=exact.levels,
        convolutions=chosen.convolutions,
        calibration=facts["calibration"],
        held=facts["held"],
        integer=chosen.integer_error,
        side=facts["side"],
        threads=facts["threads"],
        rounds=facts["rounds"],
    )
    tables = (_scores(rows), _bands(rows), _costs(rows))
    parts = [intro, _policy(rows), *tables, _wrapped(how), _choices(chosen), _machine(facts)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def refusals(rows: Sequence[Row]) -> dict[str, str]:
    """Why the engine does not offer a precision, by its name, in the words of `sr_engine.refused`."""
    return {name: _refusal(_named(rows, title), rows[0]) for name, title in REFUSED.items()}


def _refusal(row: Row, first: Row) -> str:
    test = list(row.scores)[-1]
    worst, _ = worst_drop(row, first)
    return (
        f"{row.format.name} loses {drop(row, first, test):z.3f} dB PSNR-Y on {test}, up to {worst:z.3f} dB on a "
        f"picture, and its steps in a smooth gradient are up to {row.banding.step:.2f} levels of 255 "
        f"({first.banding.step:.2f} in fp32)"
    )


def drop(row: Row, first: Row, test: str) -> float:
    """Mean PSNR-Y lost against fp32, in dB."""
    return first.scores[test].mean().psnr_y - row.scores[test].mean().psnr_y


def worst_drop(row: Row, first: Row) -> tuple[float, str]:
    """The most that a picture of any test set loses, in dB, and its name."""
    return max(
        (before.psnr_y - after.psnr_y, f"{test} {after.name}")
        for test in first.scores
        for before, after in zip(first.scores[test].images, row.scores[test].images, strict=True)
        if math.isfinite(before.psnr_y)
    )


def _policy(rows: Sequence[Row]) -> str:
    first, said = rows[0], refusals(rows)
    offered = [_refusal(_named(rows, title), first) for title in ("bf16", "fp16")]
    quick, plain = _named(rows, "INT8"), _named(rows, "fp32, exported")
    return (
        "**The engine offers fp32, bf16 and fp16. INT8 and FP8 are rejected for super-resolution:**\n\n"
        + "".join(f"- {text}.\n" for text in said.values())
        + "\nWhat is offered beside fp32:\n\n"
        + "".join(f"- {text}.\n" for text in offered)
        + f"\nINT8 takes {quick.median / plain.median:.2f} times as long as exported fp32 on this machine."
        + _deciding(quick, first)
    )


def _deciding(row: Row, first: Row) -> str:
    """What is said where PSNR hardly notices a format."""
    losses = [drop(row, first, test) for test in row.scores]
    if max(losses) >= LITTLE or row.banding.step < first.banding.step:
        return ""
    return (
        f" Its loss of PSNR alone would hardly rule it out; what does is banding: its steps are "
        f"{row.banding.step / first.banding.step:.0f} times as high as those of fp32, its error there "
        f"{row.banding.rms / first.banding.rms:.0f} times as large."
    )


def _scores(rows: Sequence[Row]) -> str:
    tests, first = list(rows[0].scores), rows[0]
    head = ["format", "computed by"]
    for test in tests:
        head += [f"{test}, dB", "loss"]
    lines = []
    for row in rows:
        cells = [row.format.name, row.format.how]
        for test in tests:
            loss = "" if row is first else f"{drop(row, first, test):z.3f}"
            cells += [f"{row.scores[test].mean().psnr_y:.3f}", loss]
        worst, name = worst_drop(row, first)
        lines.append([*cells, "" if row is first else f"{worst:z.3f} ({name})"])
    return f"## Quality\n\nPSNR-Y.\n\n{markdown_table([*head, 'worst picture loses'], lines)}"


def _bands(rows: Sequence[Row]) -> str:
    exact = ideal(rows[0].format.up.scale)
    head = ["format", "rms error", "largest error", "step", "step / exact", "8-bit levels", "goes down"]
    shown = [("exact", exact), *((row.format.name, row.banding) for row in rows)]
    lines = [
        [
            name,
            f"{one.rms:.3f}",
            f"{one.largest:.3f}",
            f"{one.step:.3f}",
            f"{one.step / exact.step:.1f}",
            f"{one.levels:.1f}",
            f"{one.back:.1f}",
        ]
        for name, one in shown
    ]
    return f"## Banding\n\nOf a smooth gradient; errors and steps in levels of 255.\n\n{markdown_table(head, lines)}"


def _costs(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        spread = "-"
        if row.milliseconds:
            taken = sorted(row.milliseconds)
            low, high = (taken[round(share * (len(taken) - 1))] for share in (0.2, 0.8))
            spread = f"{row.median:.1f} ({low:.1f} to {high:.1f})"
        size = "-" if row.format.size is None else f"{row.format.size / 1000:.0f}"
        lines.append([row.format.name, row.format.how, spread, size])
    return f"## Time and size\n\n{markdown_table(['format', 'computed by', 'ms', 'file, kB'], lines)}"


def _choices(chosen: Chosen) -> str:
    lines = [
        [kind, way, f"{score:.3f}", "taken" if rank == 0 else ""]
        for kind, ways in chosen.choices.items()
        for rank, (way, score) in enumerate(ways.items())
    ]
    about = (
        "PSNR-Y in dB on the pictures kept for choosing. `largest` takes every value into the range of a tensor, "
        f"`clipped` all but {100 * QUANTILE:g} % of a picture's at each end; the others are onnxruntime's."
    )
    return f"## Ways to choose ranges\n\n{about}\n\n{markdown_table(['format', 'ranges', 'dB', ''], lines)}"


def _machine(facts: dict[str, Any]) -> str:
    about = facts["machine"]
    lines = [[name.replace("_", " "), text_of(about.get(name))] for name in ("device", "isa", "memory_gigabytes", "os")]
    lines += [["threads", str(facts["threads"])], ["versions", text_of(facts["versions"])]]
    return f"## Machine\n\n{markdown_table(['', ''], lines)}"


def _wrapped(text: str) -> str:
    """Items of a list in lines of 120 characters, whatever the values in them."""
    head, *items = text.split("\n- ")
    lines = (textwrap.fill(f"- {' '.join(item.split())}", 120, subsequent_indent="  ") for item in items)
    return f"{head}\n" + "\n".join(lines)


def _named(rows: Sequence[Row], name: str) -> Row:
    return next(row for row in rows if row.format.name == name)
