"""When an integer upscale runs as one launch, and how that launch cuts its work."""

from dataclasses import astuple
from math import gcd
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from sr_kernels.launch import Launch
from sr_kernels.magic_resample import configs
from sr_kernels.magic_resample.tables import Band, band, norms, phases, stages
from sr_kernels.magic_resample.transpose import transpose
from sr_kernels.magic_resample.upscale import upscale

# Larger factors are rare, and their unrolled code long.
LARGEST = 8
# Outputs in a pixel, all of which the transpose unrolls.
WIDEST_GATHER = 16
# Steps from pixel to pixel, in numbers, for which a kernel is compiled; wider ones waste the cache anyhow.
WIDEST_STEP = 1024
# float32 that one thread may keep of resampled rows, so that no kernel spills.
KEPT = 80
# Outputs in all pixels of a thread of the transpose, of both its results, for the same reason.
GATHERED = 32
# Bytes that memory takes at once: pieces of a row this long are stored by themselves.
SECTOR = 32


def grows(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether both axes grow by integers, or stay, that `upscale` takes."""
    return all(n_out % n == 0 and n_out <= n * LARGEST for n, n_out in zip(before, after, strict=True))


def gathers(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """The same for `transpose`."""
    return grows(before, after) and after[0] * after[1] <= before[0] * before[1] * WIDEST_GATHER


def step(x: Tensor, layout: torch.memory_format) -> int | None:
    """Numbers from one pixel of a row to the next; None if the fused kernels do not take it."""
    if layout == torch.channels_last:
        return x.shape[1]
    if x.shape[3] == 1:
        return 1
    return x.stride(3) if x.stride(3) <= WIDEST_STEP else None


def regular(layout: torch.memory_format, *tensors: Tensor | None) -> bool:
    """Whether the fused kernels take the strides of all of them."""
    return all(step(t, layout) is not None for t in tensors if t is not None)


def place(channels: int, scale: int, rows: int, size: int) -> tuple[str, int, tuple[int, ...]]:
    """How results lie in lanes (see `upscale`), results a lane, and how many lanes a thread may have, the best last.

    `size` in bytes of one number.

    A thread keeps so many `rows` of every result.
    """
    kept = rows * scale
    if kept <= KEPT and (scale == 1 or channels * size >= SECTOR):
        return "apart", scale, tuple(n for n in (1, 2, 4) if n == 1 or n * kept <= KEPT)
    if kept <= KEPT and scale in (2, 4) and channels in (1, 2, 4):
        return "joined", scale, (1,)
    return "own", 2, (1,)


class Cut(NamedTuple):
    """How a picture is shared out: strips of `lanes` side by side, runs of `rows` below each other."""

    planes: int
    strips: int
    runs: int
    rows: int
    lanes: int
    warps: int

    @classmethod
    def of(cls, kernel: str, size: torch.Size, channels: int, length: int, deeps: tuple[int, ...]) -> "Cut":
        """For `size` [B C H W] in planes of so many channels; rows of `length` items, one of `deeps` a thread."""
        B, C, height, _ = size
        planes = C // channels
        problem = configs.Problem(B * planes, height, length, deeps, deeps[-1])
        rows, lanes, warps = astuple(configs.choose(kernel, problem))
        return cls(planes, triton.cdiv(length, lanes), triton.cdiv(height, rows), rows, lanes, warps)

    def arguments(self, size: torch.Size) -> dict[str, int]:
        return {"planes": self.planes, "height": size[2], "width": size[3], "runs": self.runs, "strips": self.strips}

    def programs(self, size: torch.Size) -> int:
        return size[0] * self.planes * self.runs * self.strips


def edges(
    kernel: str, size: torch.Size, scales: tuple[int, int], bent: bool, device: torch.device
) -> dict[str, Tensor | None]:
    """What makes up for taps outside the picture: factors of rows, columns, and those of a correction."""
    return {
        f"{prefix}norm_{axis}": norms(name, n, scale, device) if name else None
        for prefix, name in (("", kernel), ("bend_", "magic" if bent else None))
        for axis, n, scale in zip("yx", size[2:], scales, strict=True)
    }


def upscaled(x: Tensor, bend: Tensor | None, out: Tensor, kernel: str, layout: torch.memory_format) -> Launch:
    """`out`, contiguous in `layout`, = `x` upscaled with `kernel`, plus `bend` with the magic kernel."""
    _, C, height, width = x.shape
    scale_y, scale_x = out.shape[2] // height, out.shape[3] // width
    channels = C if layout == torch.channels_last else 1
    columns, bend_columns = phases(kernel, scale_x), phases("magic", scale_x)
    sharpening, rows = stages(kernel, scale_y)
    bend_rows = phases("magic", scale_y)
    taps = [len(found) for found in (columns[0], rows[0], sharpening, bend_columns[0], bend_rows[0])]
    kept = taps[1] + taps[2] + (0 if bend is None else taps[4] + 1)
    where, streams, deeps = place(channels, scale_x, kept, x.element_size())
    length = width * channels * (scale_x // streams if where != "own" else 1)
    tables: dict[str, Tensor | None] = dict.fromkeys(("start", "weights", "bend_start", "bend_weights"))
    if where == "own":
        length = triton.cdiv(width * scale_x * channels, streams)
        for prefix, name, axis in (("", kernel, 0), ("bend_", "magic", 3)):
            table: Band = band(name, width, width * scale_x, False, x.device)
            tables |= {f"{prefix}start": table.start, f"{prefix}weights": table.weights}
            taps[axis] = table.taps
    cut = Cut.of("upscale", x.shape, channels, length, deeps)
    strides = {f"{name}_{key}": 0 for name in ("x", "bend") for key in "bcy"}
    for name, t in (("x", x), ("bend", bend)):
        if t is not None:
            strides |= {f"{name}_{key}": t.stride(axis) for axis, key in enumerate("bcy")}
    return Launch(
        upscale,
        cut.programs(x.shape),
        {"x": x, "out": out, "bend": bend, **cut.arguments(x.shape)}
        | edges(kernel, x.shape, (scale_y, scale_x), bend is not None, x.device)
        | tables
        | strides,
        {
            "X": sum(columns, ()),
            "BEND_X": sum(bend_columns, ()),
            "Y": sum(rows, ()),
            "BEND_Y": sum(bend_rows, ()),
            "SHARPENING": sharpening,
            "TAPS": tuple(taps),
            "SCALE_X": scale_x,
            "SCALE_Y": scale_y,
            "STREAMS": streams,
            "STEP": step(x, layout),
            "BEND_STEP": 1 if bend is None else step(bend, layout),
            "CHANNELS": channels,
            "ROWS": cut.rows,
            "LANES": cut.lanes,
            "PLACE": where,
        },
        {"num_warps": cut.warps, "num_stages": 1},
        "upscale",
    )


def transposed(grad: Tensor, dx: Tensor, dbend: Tensor | None, kernel: str, layout: torch.memory_format) -> Launch:
    """`dx` = the transpose of `upscaled` with `kernel` applied to `grad`, and `dbend` that with the magic kernel."""
    _, C, height, width = dx.shape
    scale_y, scale_x = grad.shape[2] // height, grad.shape[3] // width
    channels = C if layout == torch.channels_last else 1
    columns, bend_columns = phases(kernel, scale_x), phases("magic", scale_x)
    sharpening, rows = stages(kernel, scale_y)
    bend_rows = phases("magic", scale_y)
    taps = tuple(len(found) for found in (columns[0], rows[0], sharpening, bend_columns[0], bend_rows[0]))
    pixel = step(grad, layout)
    joined = scale_x in (2, 4) and channels == 1 and pixel == 1
    most = 1 if scale_x > 1 and channels == 1 else GATHERED // (scale_x * scale_y * (1 if dbend is None else 2))
    deeps = tuple(n for n in (1, 2, 4) if n <= max(most, 1) and (channels % n == 0 or channels == 1))
    length = width * channels
    cut = Cut.of("transpose", dx.shape, channels, length, deeps)
    return Launch(
        transpose,
        cut.programs(dx.shape),
        {"grad": grad, "dx": dx, "dbend": dbend, **cut.arguments(dx.shape)}
        | edges(kernel, dx.shape, (scale_y, scale_x), dbend is not None, grad.device)
        | {f"grad_{key}": grad.stride(axis) for axis, key in enumerate("bcy")},
        {
            "X": sum(columns, ()),
            "BEND_X": sum(bend_columns, ()),
            "Y": sum(rows, ()),
            "BEND_Y": sum(bend_rows, ()),
            "SHARPENING": sharpening,
            "TAPS": taps,
            "SCALE_X": scale_x,
            "SCALE_Y": scale_y,
            "STEP": pixel,
            "CHANNELS": channels,
            "ROWS": cut.rows,
            "LANES": cut.lanes,
            "ALIGN": alignment(grad) if joined else 1,
            "JOINED": joined,
        },
        {"num_warps": cut.warps, "num_stages": 1},
        "transpose",
    )


def alignment(x: Tensor) -> int:
    """Bytes, up to 16, that the address of every row is a multiple of."""
    return gcd(16, x.data_ptr(), *(x.element_size() * x.stride(axis) for axis in range(3) if x.shape[axis] > 1))
