"""What follows from a layout of the generator: which are possible, what they read, how far they see."""

from typing import get_args

from sr_engine.errors import EngineError
from sr_engine.layers.content import STATISTICS_REACH
from sr_engine.layers.upsampler import KERNEL_REACH
from sr_engine.models.presets import Layout, Routing, Scale


def attends(layout: Layout) -> bool:
    """Whether there is attention at all."""
    return bool(layout.stages and layout.units and layout.window)


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
        (
            layout.units > 0 and layout.window > 0 and (layout.heads < 1 or layout.width % layout.heads != 0),
            f"width ({layout.width}) must be a multiple of heads, got {layout.heads}",
        ),
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
