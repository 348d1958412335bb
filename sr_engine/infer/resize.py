"""Pictures to any size: which size that is, and a resize of rows as they come."""

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import partial
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from sr_engine.errors import EngineError
from sr_engine.infer.light import to_display, to_linear
from sr_engine.infer.memory import halving
from sr_kernels import functional as K
from sr_kernels.magic_resample.filters import axis_weights

_FORMS = "a factor such as 2.5, or 3840x2160 (to fit into), 3840x, x2160 or 3840x2160! (exactly)"
_LARGEST = 1 << 24  # pixels of a side: more than any format holds
# Numbers that are resized at a time: 16 MiB of float32.
_STRIP = 2**22
# Rows of the result that are made by one product: longer ones multiply with more zeros.
_PRODUCT = 32


def target_size(height: int, width: int, *, scale: float | None = None, geometry: str | None = None) -> tuple[int, int]:
    """The (height, width) that a picture of `height` x `width` pixels shall get.

    Args:
        scale: of both sides, each rounded as `K.magic_resample` does, to at least 1; or
        geometry: `2.5` = a scale; `3840x2160` = the largest of the picture's shape that fits, up or down; `3840x` and
            `x2160` = of this width or height, in the picture's shape; `3840x2160!` = exactly this, whatever its shape.

    Raises:
        EngineError: neither or both are given, or they name no size.
    """
    if (scale is None) == (geometry is None):
        raise EngineError("give a scale or a size, one of the two.")
    if scale is not None:
        return _scaled(height, width, scale, str(scale))
    text = str(geometry).strip().lower().replace("\u00d7", "x")
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        return _scaled(height, width, float(text), text)
    found = re.fullmatch(r"(\d*)x(\d*)(!?)", text)
    if found is None or not (found[1] or found[2]) or (found[3] and not (found[1] and found[2])):
        raise EngineError(f"size '{geometry}' cannot be read: expected {_FORMS}.")
    columns, rows = (int(side) if side else None for side in found.groups()[:2])
    if 0 in (columns, rows) or max(columns or 1, rows or 1) > _LARGEST:
        raise EngineError(f"size '{geometry}' is impossible: expected sides of 1 to {_LARGEST} pixels.")
    if found[3] and rows is not None and columns is not None:
        return rows, columns
    factors = [Fraction(rows, height)] if rows is not None else []
    factors += [Fraction(columns, width)] if columns is not None else []
    return _scaled(height, width, min(factors), str(geometry))


def _scaled(height: int, width: int, factor: float | Fraction, given: str) -> tuple[int, int]:
    if not (isfinite(factor) and factor > 0):
        raise EngineError(f"scale {given} is impossible: expected a number above 0.")
    size = max(1, round(height * factor)), max(1, round(width * factor))
    if max(size) > _LARGEST:
        raise EngineError(f"{given} would make {size[1]}x{size[0]} pixels: expected sides up to {_LARGEST}.")
    return size


class ResizedRows:
    """`K.magic_resample` of a picture whose bands come one by one: `for band in ResizedRows(source, size)(bands)`.

    Of the picture it holds the rows that one row of the result is made of (9, and for smaller results 9 times the
    reduction), resized horizontally, and one strip. The result is that of the whole picture within the rounding of
    float32, on the device of the bands, clipped to 0..1.

    Args:
        source, size: (height, width) of the picture and of the result.
        kernel: of `K.magic_resample`.
        linear: bands are display values (sRGB): resample the light they stand for, see `sr_engine.infer.light`.

    Raises:
        EngineError: from the iteration: memory does not suffice.
    """

    def __init__(
        self, source: tuple[int, int], size: tuple[int, int], *, kernel: str = "mks2021", linear: bool = False
    ) -> None:
        self.source, self.size, self.kernel, self.linear = source, size, kernel, linear
        self.start, self.weights = axis_weights(kernel, source[0], size[0])
        self.stop = self.start + self.weights.shape[1]

    def __call__(self, bands: Iterable[Tensor]) -> Iterator[Tensor]:
        """Finished bands (B, C, rows, W'), top to bottom, for bands (B, C, rows, W) float32 in 0..1 of any heights."""
        taking, giving = 0, 0  # rows at a time; less after running out of memory
        lines: Tensor | None = None  # what is still needed, resized horizontally: rows top..bottom of the picture
        top = bottom = done = 0
        for band in bands:
            room = max(1, _STRIP // (band[..., 0, :].numel() // band.shape[-1] * max(self.source[1], self.size[1])))
            taking, giving = taking or room, giving or min(room, _PRODUCT)
            at = 0
            while at < band.shape[-2]:
                taking, lines = halving(taking, partial(self._taken, lines, band[..., at:, :]), band.device)
                at += top + lines.shape[-2] - bottom
                bottom = top + lines.shape[-2]
                ready = int(np.searchsorted(self.stop, bottom, "right"))
                while done < ready:
                    make = partial(self._made, lines, top, done, ready)
                    giving, result = halving(giving, make, band.device)
                    done += result.shape[-2]
                    yield result
                needed = int(self.start[done]) if done < len(self.start) else bottom
                lines, top = lines[..., needed - top :, :], needed

    def _taken(self, lines: Tensor | None, band: Tensor, rows: int) -> Tensor:
        """`lines` with the next rows, at most `rows`, of the band below them."""
        strip = band[..., :rows, :].float()
        strip = to_linear(strip) if self.linear else strip
        strip = K.magic_resample(strip, size=(strip.shape[-2], self.size[1]), kernel=self.kernel)
        return strip if lines is None else torch.cat([lines, strip], -2)

    def _made(self, lines: Tensor, top: int, done: int, ready: int, rows: int) -> Tensor:
        """The next rows of the result, at most `rows`, from lines that begin at `top`."""
        end = min(done + rows, ready)
        low, high = int(self.start[done]), int(self.stop[end - 1])
        matrix = np.zeros((end - done, high - low))
        columns = self.start[done:end, None] - low + np.arange(self.weights.shape[1])
        np.put_along_axis(matrix, columns, self.weights[done:end], axis=1)
        with torch.autocast(lines.device.type, enabled=False):
            result = torch.from_numpy(matrix).to(lines) @ lines[..., low - top : high - top, :]
        return to_display(result) if self.linear else result.clamp_(0, 1)
