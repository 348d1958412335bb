"""What follows from a layout of the generator: which are possible, what they read, how far they see."""

from dataclasses import asdict
from typing import Any, get_args

from sr_engine.errors import EngineError
from sr_engine.layers.content import STATISTICS_REACH
from sr_engine.layers.upsampler import KERNEL_REACH
from sr_engine.models.presets import Layout, Routing, Scale


def attends(layout: Layout) -> bool:
    """Whether there is attention at all."""
    return bool(layout.stages and layout.units and layout.window)


def stage_heads(layout: Layout) -> list[int]:
    """Attention heads of each stage."""
    return [layout.heads] * layout.stages if isinstance(layout.heads, int) else layout.heads


def as_arguments(layout: Layout) -> dict[str, Any]:
    """The keywords of `Generator` that make this layout; what is even goes unsaid, as files of old have it."""
    return {name: value for name, value in asdict(layout).items() if value is not None}


def is_aware(layout: Layout) -> bool:
    """Whether any part reads the content."""
    return layout.steer or (layout.film and layout.stages > 0) or (layout.gate and attends(layout))


def receptive_field(layout: Layout) -> int:
    """Reach in input pixels: the sum over the longest chain of layers, from the statistics when there are any.

    With routing topk it is the reach once windows are chosen: that choice compares those of the whole picture.
    """
    # Gains act on the input grid, one pixel from the output through the magic kernel.
    base = max(KERNEL_REACH, layout.reach + 1, STATISTICS_REACH + 1 if layout.steer else 0)
    if not layout.stages:
        return base
    if layout.units:
        large = layout.kernel_size // 2 if layout.kernel_channels else 0
        stage = layout.units * (1 + large) + max(layout.window - 1, 0) + 1
    else:
        stage = 3
    # FiLM sits behind the convolutions of a dense block, and in front of those of a mixing stage.
    body = layout.stages * stage + 1
    modulated = STATISTICS_REACH + body - (0 if layout.units else stage) if layout.film else 0
    gated = STATISTICS_REACH + layout.window + body - stage + 1 if layout.gate and attends(layout) else 0
    return max(base, 1 + body, modulated, gated)


def check(scale: int, layout: Layout) -> None:
    """Raises an EngineError that names every value out of its range."""
    problems = [
        (scale not in get_args(Scale), f"scale must be 1, 2, 3 or 4, got {scale}"),
        (layout.stages < 0 or layout.units < 0 or layout.window < 0, "stages, units and window must not be negative"),
        (layout.expansion <= 0, f"expansion must be positive, got {layout.expansion}"),
        (layout.features < 1, f"features must be at least 1, got {layout.features}"),
        (layout.reach < 1, f"reach must be at least 1, got {layout.reach}"),
        (layout.stages > 0 and layout.width < 1, f"width must be at least 1, got {layout.width}"),
        (layout.kernel_size % 2 == 0, f"kernel_size must be odd, got {layout.kernel_size}"),
        (
            not 0 <= layout.kernel_channels <= layout.width,
            f"kernel_channels must be 0..width ({layout.width}), got {layout.kernel_channels}",
        ),
        *_of_heads(layout),
        *_of_lists(layout),
        (layout.window == 1, "window must be 0 or at least 2"),
        (layout.routing not in get_args(Routing), f"routing must be dense or topk, got '{layout.routing}'"),
        (not 0 < layout.share <= 1, f"share must be above 0 and at most 1, got {layout.share}"),
        (
            layout.routing == "topk" and not (layout.gate and attends(layout)),
            "only a network with gated attention (stages, units, window, gate) can choose windows: take routing dense",
        ),
    ]
    if found := [message for wrong, message in problems if wrong]:
        raise EngineError(f"generator: {'; '.join(found)}.")


def _of_heads(layout: Layout) -> list[tuple[bool, str]]:
    heads, wrong = layout.heads, f"got {layout.heads}"
    if not (layout.units > 0 and layout.window > 0):
        return [(isinstance(heads, list), f"heads can differ between stages with attention only, {wrong}")]
    if isinstance(heads, list) and (len(heads) != layout.stages or any(count < 1 for count in heads)):
        return [(True, f"heads must be one number or {layout.stages} (stages), each at least 1, {wrong}")]
    if layout.head_dim is not None:
        return [
            (layout.head_dim < 1, f"head_dim must be at least 1, got {layout.head_dim}"),
            (isinstance(heads, int) and heads < 1, f"heads must be at least 1, {wrong}"),
        ]
    if isinstance(heads, list):
        return [(True, f"heads that differ between stages need head_dim, {wrong}")]
    return [(heads < 1 or layout.width % heads != 0, f"width ({layout.width}) must be a multiple of heads, {wrong}")]


def _of_lists(layout: Layout) -> list[tuple[bool, str]]:
    """Lists of channels belong to one kind of stage each, and have a number for each of its layers."""
    units = layout.units > 0
    return [
        (units and layout.inner is not None, "inner is for stages of dense convolutions (units: 0)"),
        (not units and layout.hidden is not None, "hidden is for stages with units"),
        (
            not units and not _fits(layout.inner, layout.stages, 2),
            f"inner must be {layout.stages} lists (stages) of 2 numbers of at least 1, got {layout.inner}",
        ),
        (
            units and not _fits(layout.hidden, layout.stages, layout.units),
            f"hidden must be {layout.stages} lists (stages) of {layout.units} numbers (units) of at least 1, "
            f"got {layout.hidden}",
        ),
    ]


def _fits(lists: list[list[int]] | None, rows: int, columns: int) -> bool:
    if lists is None:
        return True
    return len(lists) == rows and all(len(row) == columns and min(row) >= 1 for row in lists)
