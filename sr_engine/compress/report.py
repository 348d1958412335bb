"""What pruning did to a network, as lines and as JSON."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Cost:
    """parameters: folded. macs: multiply-adds for a 1280x720 output. milliseconds: of a run. psnr_y: dB, not finite
    where the pictures are met exactly."""

    parameters: int
    macs: int
    milliseconds: float
    psnr_y: float


@dataclass(frozen=True)
class PruneReport:
    """Costs before and after, and the sizes (before, after) of every axis by its name.

    setting: what the time was measured on. pictures: what PSNR-Y is the mean over.
    """

    model: str
    file: str
    criterion: str
    asked: float
    before: Cost
    after: Cost
    sizes: Mapping[str, tuple[int, int]]
    setting: str
    pictures: str

    @property
    def reached(self) -> float:
        return 1 - self.after.parameters / self.before.parameters

    def lines(self) -> Iterator[str]:
        """A table, and below it what it was measured on."""
        before, after = self.before, self.after
        yield f"{'':22} {'before':>12} {'after':>12}"
        for label, old, new, form in (
            ("parameters", before.parameters, after.parameters, ",d"),
            ("MACs (G)", before.macs / 1e9, after.macs / 1e9, ",.2f"),
            ("latency (ms)", before.milliseconds, after.milliseconds, ",.1f"),
        ):
            yield f"{label:22} {old:>12{form}} {new:>12{form}}  {100 * (new / old - 1):+.1f} %"
        yield f"{'PSNR-Y (dB)':22} {before.psnr_y:>12.2f} {after.psnr_y:>12.2f}  {after.psnr_y - before.psnr_y:+.2f} dB"
        for label, old, new in _by_layer(self.sizes):
            yield f"{label:22} {old:>12} {new:>12}"
        yield f"ratio asked {self.asked:g}, reached {self.reached:.3f}, by {self.criterion}"
        yield "parameters and MACs: folded for inference, MACs for a 1280x720 output"
        yield f"latency: {self.setting}; PSNR-Y: {self.pictures}"

    def to_json(self) -> str:
        """The fields, with `reached`; JSON has no infinity, so a PSNR of equal pictures is null."""
        content = asdict(self) | {"reached": self.reached, "sizes": {k: list(v) for k, v in self.sizes.items()}}
        for cost in (content["before"], content["after"]):
            cost["psnr_y"] = cost["psnr_y"] if math.isfinite(cost["psnr_y"]) else None
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _by_layer(sizes: Mapping[str, tuple[int, int]]) -> Iterator[tuple[str, str, str]]:
    """Label and sizes, those of one stage on one line; equal lines are counted, not repeated."""
    rows: dict[str, list[tuple[int, int]]] = {}
    for name, pair in sizes.items():
        stage, what = _label(name)
        rows.setdefault(f"{stage}{what}", []).append(pair)
    for label, pairs in rows.items():
        yield label, _sizes([old for old, _ in pairs]), _sizes([new for _, new in pairs])


def _sizes(values: list[int]) -> str:
    if len(values) > 4 and len(set(values)) == 1:
        return f"{len(values)} x {values[0]}"
    return " ".join(map(str, values))


def _label(axis: str) -> tuple[str, str]:
    """Where an axis is and what it is: `body.1.inner0` is `stage 2 inner`."""
    if not axis.startswith("body."):
        return "", "width" if axis == "width" else "MLP channels"
    parts = axis.split(".")
    return f"stage {int(parts[1]) + 1} ", parts[-1].rstrip("01")
