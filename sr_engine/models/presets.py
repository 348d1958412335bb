"""Layouts of the generator by name."""

from dataclasses import dataclass
from typing import Literal

Preset = Literal["resampler", "nano", "tiny", "small", "base", "large"]
Routing = Literal["dense", "topk"]
Scale = Literal[1, 2, 3, 4]


@dataclass(frozen=True)
class Layout:
    """Everything that shapes a generator besides its scale; the keywords of `Generator` say what each means."""

    width: int = 0
    stages: int = 0
    units: int = 0
    expansion: float = 1.5
    kernel_size: int = 13
    kernel_channels: int = 0
    window: int = 0
    heads: int | list[int] = 1
    steer: bool = True
    features: int = 16
    reach: int = 2
    film: bool = True
    gate: bool = True
    routing: Routing = "dense"
    share: float = 0.5
    # What pruning makes uneven; None = even, as the other values say.
    inner: list[list[int]] | None = None
    hidden: list[list[int]] | None = None
    head_dim: int | None = None


# Nano and tiny are convolutions on the upsampler with one gain a stencil: neither FiLM nor steering paid for its time
# there (docs/log.md, 2026-11-23: bench/ablation.py and bench/test_content_parts.py).
LAYOUTS: dict[Preset, Layout] = {
    "resampler": Layout(reach=3),
    "nano": Layout(width=24, stages=6, steer=False, film=False),
    "tiny": Layout(width=32, stages=5, steer=False, film=False),
    "small": Layout(width=48, stages=4, units=4, kernel_channels=12, window=16, heads=3),
    "base": Layout(width=64, stages=5, units=5, expansion=1.25, kernel_channels=16, window=32, heads=4),
    "large": Layout(width=144, stages=10, units=5, kernel_channels=24, window=32, heads=6),
}
