"""When an integer upscale runs as one launch, and how that launch cuts its work."""

import torch
import triton
from torch import Tensor

from sr_kernels.launch import Launch
from sr_kernels.magic_resample.tables import Band, band, norms, phases
from sr_kernels.magic_resample.upscale import upscale

# Larger factors are rare, and their unrolled code long.
LARGEST = 8
# Steps from pixel to pixel, in numbers, for which a kernel is compiled; wider ones waste the cache anyhow.
WIDEST_STEP = 1024
# float32 that one thread may keep of resampled rows, so that no kernel spills.
KEPT = 80
# Programs to make where the picture allows: several for every place on the multiprocessors of a large GPU.
PROGRAMS = 2048
# Bytes that memory takes at once: pieces of a row this long are stored by themselves.
SECTOR = 32


def factors(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int] | None:
    """The integers that both axes grow by, if they do and the fused kernels take them."""
    if any(n_out % n or n_out > n * LARGEST for n, n_out in zip(before, after, strict=True)):
        return None
    return after[0] // before[0], after[1] // before[1]


def step(x: Tensor, layout: torch.memory_format) -> int | None:
    """Numbers from one pixel of a row to the next; None if the fused kernels do not take it."""
    if layout == torch.channels_last:
        return x.shape[1]
    if x.shape[3] == 1:
        return 1
    return x.stride(3) if x.stride(3) <= WIDEST_STEP else None


def place(channels: int, scale: int, taps: int, size: int) -> tuple[str, int, int]:
    """How results lie in lanes (see `upscale`), results a lane, and lanes a thread; `size` in bytes of one number.

    A thread keeps taps + 1 rows of every result.
    """
    kept = (taps + 1) * scale
    if kept <= KEPT and (scale == 1 or channels * size >= SECTOR):
        return "apart", scale, max(n for n in (1, 2, 4) if n == 1 or n * kept <= KEPT)
    if kept <= KEPT and scale in (2, 4) and channels in (1, 2, 4):
        return "joined", scale, 1
    return "own", 2, 1


def run_length(height: int, others: int) -> int:
    """Rows of one program, where there are so many `others` side by side; longer runs read fewer rows twice."""
    return max((n for n in (16, 32, 64) if others * triton.cdiv(height, n) >= PROGRAMS), default=8)


def upscaled(x: Tensor, bend: Tensor | None, out: Tensor, kernel: str, layout: torch.memory_format) -> Launch:
    """`out` = `x` upscaled with `kernel`, plus `bend` (contiguous in `layout`, like `out`) with the magic kernel."""
    B, C, height, width = x.shape
    scale_y, scale_x = out.shape[2] // height, out.shape[3] // width
    channels = C if layout == torch.channels_last else 1
    rows, columns, bend_rows, bend_columns = (
        phases(name, scale) for name in (kernel, "magic") for scale in (scale_y, scale_x)
    )
    taps = [len(columns[0]), len(rows[0]), len(bend_columns[0]), len(bend_rows[0])]
    where, streams, deep = place(channels, scale_x, taps[1] + (0 if bend is None else 4), x.element_size())
    length = width * channels * (scale_x // streams if where != "own" else 1)
    tables: dict[str, Tensor | None] = dict.fromkeys(("start", "weights", "bend_start", "bend_weights"))
    if where == "own":
        length = triton.cdiv(width * scale_x * channels, streams)
        for prefix, name, axis in (("", kernel, 0), ("bend_", "magic", 2)):
            table: Band = band(name, width, width * scale_x, False, x.device)
            tables |= {f"{prefix}start": table.start, f"{prefix}weights": table.weights}
            taps[axis] = table.taps
    warps = min(4, triton.next_power_of_2(triton.cdiv(length, 32 * deep)))
    lanes = 32 * warps * deep
    strips, planes = triton.cdiv(length, lanes), C // channels
    run = run_length(height, B * planes * strips)
    runs = triton.cdiv(height, run)
    strides = {f"{name}_{key}": 0 for name in ("x", "bend") for key in "bcy"}
    for name, t in (("x", x), ("bend", bend)):
        if t is not None:
            strides |= {f"{name}_{key}": t.stride(axis) for axis, key in enumerate("bcy")}
    return Launch(
        upscale,
        B * planes * runs * strips,
        {
            "x": x,
            "out": out,
            "bend": bend,
            "norm_x": norms(kernel, width, scale_x, x.device),
            "norm_y": norms(kernel, height, scale_y, x.device),
            "bend_norm_x": None if bend is None else norms("magic", width, scale_x, x.device),
            "bend_norm_y": None if bend is None else norms("magic", height, scale_y, x.device),
            "planes": planes,
            "height": height,
            "width": width,
            "runs": runs,
            "strips": strips,
        }
        | tables
        | strides,
        {
            "X": sum(columns, ()),
            "BEND_X": sum(bend_columns, ()),
            "Y": sum(rows, ()),
            "BEND_Y": sum(bend_rows, ()),
            "TAPS": tuple(taps),
            "SCALE_X": scale_x,
            "SCALE_Y": scale_y,
            "STREAMS": streams,
            "STEP": step(x, layout),
            "CHANNELS": channels,
            "ROWS": run,
            "LANES": lanes,
            "PLACE": where,
        },
        {"num_warps": warps, "num_stages": 1},
    )
