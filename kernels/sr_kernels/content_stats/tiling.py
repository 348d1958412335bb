"""How the kernels of the content statistics cut pictures: strips of columns, bands of rows."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import triton
from torch import Tensor

from sr_kernels.launch import Launch

POOLED = (8, 16, 32)  # windows whose difficulty needs no second launch
COLUMNS = 56  # of a strip: 64 that a warp reads, less 4 on either side
# Bands are as high as leaves so many programs: six for each multiprocessor of a large GPU, where nine find room. Lower
# bands read and sum more rows twice, higher ones leave cores idle.
PROGRAMS = 768
BANDS = (64, 48, 32, 16, 8)
# The assembler that comes with Triton 3.9 stops at 168 unless told, and spills.
REGISTERS = 255


@dataclass(frozen=True)
class Picture:
    """A picture (B, 1 or 3, H, W) of any strides."""

    x: Tensor

    def over_strips(
        self, kernel: Any, maps: Mapping[str, Tensor | None], *, window: int = 0, margin: int = 0, **constants: Any
    ) -> Launch:
        """A program for every strip of every band, of the 2x2 means first: theirs take longest.

        Strips and bands hold whole windows, if any; they cover the picture and a `margin` around it.
        """
        B, C, H, W = self.x.shape
        valid = COLUMNS // window * window if window else COLUMNS
        half_H, half_W = (H + 1) // 2, (W + 1) // 2
        coarse = half_H + 2 * margin, half_W + 2 * margin
        fine = H + 2 * margin, W + 2 * margin
        heights = [rows for rows in BANDS if not window or rows % window == 0]

        def programs(rows: int) -> int:
            return B * (_cut(coarse, rows, COLUMNS)[0] + _cut(fine, rows, valid)[0])

        rows = next((rows for rows in heights if programs(rows) >= PROGRAMS), heights[-1])
        coarse_programs, coarse_strips, coarse_bands = _cut(coarse, rows, COLUMNS)
        _, fine_strips, fine_bands = _cut(fine, rows, valid)
        sizes = {"coarse_programs": B * coarse_programs, "coarse_strips": coarse_strips, "coarse_bands": coarse_bands}
        return Launch(
            kernel,
            programs(rows),
            {"x": self.x, **maps, **strides("x", self.x), "H": H, "W": W, **sizes}
            | {"half_H": half_H, "half_W": half_W}
            | {"fine_strips": fine_strips, "fine_bands": fine_bands},
            {"CHANNELS": C, "VALID": valid, "ROWS": rows, **constants},
            {"num_warps": 1, "num_stages": 1, "maxnreg": REGISTERS},
        )


def _cut(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int, int]:
    """Programs, strips, bands of one picture."""
    strips, bands = triton.cdiv(size[1], columns), triton.cdiv(size[0], rows)
    return strips * bands, strips, bands


def strides(name: str, x: Tensor) -> dict[str, int]:
    """Kernel arguments `NAME_b`, `NAME_c`, `NAME_y`, `NAME_x`."""
    return {f"{name}_{axis}": step for axis, step in zip("bcyx", x.stride(), strict=True)}


def compiled() -> bool:
    """Whether kernels run on a device and not in the interpreter, which has no assembler."""
    return os.environ.get("TRITON_INTERPRET") != "1"
