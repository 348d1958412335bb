"""One axis of any resize in Triton, up or down, or its transpose: two launches make a picture.

Serves what the fused kernels of an integer upscale do not take. Between the two launches lies one float32 picture.
"""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.launch import Launch, Steps
from sr_kernels.magic_resample import configs
from sr_kernels.magic_resample.bands import Map
from sr_kernels.magic_resample.tables import Band, band


@triton.jit
def narrowed(value, dtype: tl.constexpr):
    """float32 as the output holds it; uint8 clipped and rounded half to even."""
    if dtype == tl.uint8:
        # In 2^23 .. 2^24 float32 holds the integers alone: adding rounds, and leaves the byte in the low bits.
        value = tl.minimum(tl.maximum(value, 0.0), 255.0) + 8388608.0
        return (value.to(tl.int32, bitcast=True) & 255).to(tl.uint8)
    return value.to(dtype)


@triton.jit
def window_sum(
    x, start, weights, taps, length, step_b, step_c, step_y, step_x, batch, plane, row, pixel, channel,
    AXIS: tl.constexpr,
):  # fmt: skip
    """sum_t weights[t, o] * x[start[o] + t] along one axis, for a tile of rows and of pixels of one plane."""
    at = x + batch.to(tl.int64) * step_b + plane.to(tl.int64) * step_c + channel.to(tl.int64)[None, :] * step_c
    if AXIS == 0:
        at += tl.load(start + row).to(tl.int64)[:, None] * step_y + pixel.to(tl.int64)[None, :] * step_x
        weight, step = weights + row[:, None], step_y
    else:
        at += row.to(tl.int64)[:, None] * step_y + tl.load(start + pixel).to(tl.int64)[None, :] * step_x
        weight, step = weights + pixel[None, :], step_x
    total = tl.zeros(at.shape, tl.float32)
    for _ in range(0, taps):
        total += tl.load(at).to(tl.float32) * tl.load(weight)
        at += step
        weight += length
    return total


@triton.jit
def banded(
    x, x_start, x_weights, x_taps, x_b, x_c, x_y, x_x,
    y, y_start, y_weights, y_taps, y_b, y_c, y_y, y_x,
    out, planes, height, width, bands, strips,
    AXIS: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """One axis (0: columns, 1: rows) of `x` and, where given, of `y`, summed.

    One program owns ROWS rows by LANES numbers of the output in one plane; `planes` counts those of a picture, which
    have CHANNELS channels side by side. It writes its tile once and reads what the taps need; neighbours share reads
    through the cache. The length of the axis in the tables is that of the output.
    """
    program = tl.program_id(0)
    strip, rest = program % strips, program // strips
    first_row, index = rest % bands * ROWS, rest // bands
    batch, plane = index // planes, index % planes
    lane = strip * LANES + tl.arange(0, LANES)
    line = first_row + tl.arange(0, ROWS)
    # Beyond the picture the last row and the last number are computed again, and not stored.
    row, used = tl.minimum(line, height - 1), tl.minimum(lane, width * CHANNELS - 1)
    pixel, channel = used // CHANNELS, used % CHANNELS
    length = height if AXIS == 0 else width
    total = window_sum(
        x, x_start, x_weights, x_taps, length, x_b, x_c, x_y, x_x, batch, plane, row, pixel, channel, AXIS
    )
    if y is not None:
        total += window_sum(
            y, y_start, y_weights, y_taps, length, y_b, y_c, y_y, y_x, batch, plane, row, pixel, channel, AXIS
        )
    at = out + index.to(tl.int64) * height * (width * CHANNELS)
    at += line.to(tl.int64)[:, None] * (width * CHANNELS) + lane[None, :]
    inside = (line < height)[:, None] & (lane < width * CHANNELS)[None, :]
    tl.store(at, narrowed(total, out.dtype.element_ty), inside)


class Term(NamedTuple):
    """A tensor [B C H W] of any strides, and the map that takes it to the size of the output."""

    x: Tensor
    map: Map


def resample(terms: list[Term], out: Tensor, layout: torch.memory_format) -> Steps[None]:
    """`out` = sum of the maps of one or two terms of one size; `out` is contiguous in `layout`."""
    before, after = tuple(terms[0].x.shape[2:]), tuple(out.shape[2:])
    growth = [after[axis] / before[axis] for axis in (0, 1)]
    # The axis that shrinks more goes first: the other then has less to do.
    order = [axis for axis in ((1, 0) if growth[1] <= growth[0] else (0, 1)) if after[axis] != before[axis]] or [0]
    if len(order) == 2:
        first, steps = order[0], []
        between = [after[axis] if axis == first else before[axis] for axis in (0, 1)]
        for term in terms:
            middle = torch.empty(*out.shape[:2], *between, device=out.device, memory_format=layout)
            yield one_axis([term], middle, layout, first)
            steps.append(term._replace(x=middle))
        terms = steps
    yield one_axis(terms, out, layout, order[-1])


def one_axis(terms: list[Term], out: Tensor, layout: torch.memory_format, axis: int) -> Launch:
    """The launch for one axis; the other keeps its size."""
    B, C, height, width = out.shape
    channels = C if layout == torch.channels_last else 1
    choice = ("banded_columns", "banded_rows")[axis]
    config = configs.choose(choice, configs.Problem(B * (C // channels), height, width * channels))
    bands, strips = triton.cdiv(height, config.rows), triton.cdiv(width * channels, config.lanes)
    arguments = {"out": out, "planes": C // channels, "height": height, "width": width}
    return Launch(
        banded,
        B * (C // channels) * bands * strips,
        _term("x", terms[0], axis) | _term("y", terms[1] if len(terms) > 1 else None, axis)
        | arguments | {"bands": bands, "strips": strips},
        {"AXIS": axis, "CHANNELS": channels, "ROWS": config.rows, "LANES": config.lanes},
        {"num_warps": config.warps, "num_stages": 1},
        choice,
    )  # fmt: skip


def _term(name: str, term: Term | None, axis: int) -> dict[str, Tensor | int | None]:
    """The arguments of one term: tensor, table and strides."""
    if term is None:
        keys = ("", "_start", "_weights", "_taps", "_b", "_c", "_y", "_x")
        return {name + key: None if key in ("", "_start", "_weights") else 0 for key in keys}
    table = _table(term.map, axis, term.x.device)
    named = {name: term.x, f"{name}_start": table.start, f"{name}_weights": table.weights, f"{name}_taps": table.taps}
    return named | {f"{name}_{key}": step for key, step in zip("bcyx", term.x.stride(), strict=True)}


def _table(m: Map, axis: int, device: torch.device) -> Band:
    return band(m.kernel, m.source[axis], m.target[axis], m.transposed, device)
