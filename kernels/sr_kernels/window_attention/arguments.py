"""A call of window attention in the terms of the kernels: base pointers, strides, constants."""

import math
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from sr_kernels.launch import Launch
from sr_kernels.window_attention.windows import Windows

WHOLE = 64  # tokens up to which all scores of a window may stay in registers
OUTSIDE = {"error": 0, "zero": 1, "token": 2}


@dataclass(frozen=True, eq=False)
class Problem:
    """q (B,H,W,heads,d), k and v (B,Hk,Wk,heads,d), views of any strides; the rest as in api.py, checked there."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None
    logit_scale: Tensor | None
    pad_token: Tensor | None
    heads: int
    scale: float
    windows: Windows
    precision: str
    training: bool  # whether a backward pass follows, or this is one
    arch: int  # compute capability times 10

    @staticmethod
    def of(qkv: list[Tensor], heads: int, *rest: Any, training: bool, arch: int | None = None) -> "Problem":
        """From packed qkv [(B,H,W,3C)] or [q, k, v]; the rest in the order of the fields."""
        if len(qkv) == 1:
            q, k, v = qkv[0].unflatten(3, (3, heads, -1)).unbind(3)
        else:
            q, k, v = qkv
        if k.stride() != v.stride():
            k, v = k.contiguous(), v.contiguous()
        bias, logit_scale, pad_token, scale, windows, precision = rest
        arch = arch or architecture(q.device)
        return Problem(q, k, v, bias, logit_scale, pad_token, heads, scale, windows, precision, training, arch)

    @property
    def head_dim(self) -> int:
        return self.q.shape[4]

    @property
    def tokens(self) -> tuple[int, int]:
        return self.windows.tokens

    @property
    def whole(self) -> bool:
        return whole(self.windows, self.head_dim, self.q.dtype, self.arch, self.training)

    @property
    def padded_head_dim(self) -> int:
        return block(self.head_dim)

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Rows and columns of windows."""
        rows, columns = self.windows.axes(*self.q.shape[1:3])
        return rows.count, columns.count

    @property
    def count(self) -> int:
        """Windows in the batch."""
        return self.q.shape[0] * math.prod(self.counts)

    @cached_property
    def geometry(self) -> tuple[int, ...]:
        """`G` of tiles.py."""
        w = self.windows
        reaches = any(axis.reaches_outside for axis in w.axes(*self.q.shape[1:3]))
        outside = OUTSIDE[w.outside] if reaches else 0
        pairs = (w.size, w.shift, w.keys, w.key_step, w.key_offset)
        return *(n for pair in pairs for n in pair), w.layout == "grid", outside, w.order == "pad_roll"

    @cached_property
    def table(self) -> tuple[Tensor | None, int, int]:
        """The bias in float32, as the kernels read it, and the strides of a table's rows and of heads."""
        if self.bias is None or self.bias.dim() == 3:
            return None if self.bias is None else self.bias.float().contiguous(), 0, math.prod(self.tokens)
        if self.whole:
            return self.bias.float().contiguous(), self.heads, 1
        # Streaming kernels look up every score: neighbouring keys must be neighbouring numbers.
        return self.bias.t().float().contiguous(), 1, self.bias.shape[0]

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """What several kernels take at run time."""
        starts, bases = zip(*((t.storage_offset(), _base(t)) for t in (self.q, self.k, self.v)), strict=True)
        bias, bias_row, bias_head = self.table
        named = {
            **dict(zip(("q", "k", "v"), bases, strict=True)),
            **dict(zip(("q_start", "k_start", "v_start"), starts, strict=True)),
            **dict(zip(("q_b", "q_y", "q_x", "q_h", "q_d"), self.q.stride(), strict=True)),
            **dict(zip(("k_b", "k_y", "k_x", "k_h", "k_d"), self.k.stride(), strict=True)),
            "bias": bias,
            "bias_row": bias_row,
            "bias_head": bias_head,
            "logit_scale": None if self.logit_scale is None else self.logit_scale.contiguous(),
            "token": None if self.pad_token is None else self.pad_token.contiguous(),
            "scale": self.scale,
            "penalty": self.windows.penalty,
        }
        named |= dict(zip(("H", "W"), self.q.shape[1:3], strict=True)) | dict(
            zip(("NY", "NX"), self.counts, strict=True)
        )
        return named

    @cached_property
    def constants(self) -> dict[str, Any]:
        """What several kernels take at compile time."""
        steps = [n for t in (self.q, self.k) for n in t.stride()[:4]]
        aligned = math.gcd(16 // self.q.element_size(), self.head_dim, *self._starts(), *steps)
        reach = max(t.shape[1] * t.stride(1) + t.shape[2] * t.stride(2) for t in (self.q, self.k))
        return {
            "G": self.geometry,
            "HEADS": self.heads,
            "D": self.head_dim,
            "NQ": self.tokens[0],
            "NK": self.tokens[1],
            "BIAS": 0 if self.bias is None else 1 if self.bias.dim() == 2 else 2,
            "COSINE": self.logit_scale is not None,
            "SEAM": any(self.windows.shift) and self.windows.penalty != 0,
            "SAME": self.windows.keys_are_queries and self.q.stride() == self.k.stride(),
            "PRECISION": "tf32x3" if self.precision == "auto" else self.precision,
            "COMPILED": os.environ.get("TRITON_INTERPRET") != "1",
            "ALIGN": aligned,
            "EVEN": math.gcd(16 // self.q.element_size(), self.head_dim),
            "WIDE": reach > 2**31 - 1,
            "BD": self.padded_head_dim,
        }

    def launch(
        self,
        kernel: Any,
        grid: int,
        config: Any,
        arguments: dict[str, Any],
        constants: dict[str, Any] | None = None,
    ) -> Launch:
        """`kernel` with those of the common arguments that it takes, and these."""
        names, fixed = parameters(kernel)
        given = self.arguments | arguments
        small = {"BM": block(self.tokens[0]), "BN": block(self.tokens[1])} if self.whole else {}
        chosen = self.constants | {"BM": config.queries, "BN": config.keys} | small | (constants or {})
        return Launch(
            kernel,
            grid,
            {name: given[name] for name in names},
            {name: chosen[name] for name in fixed},
            {"num_warps": config.warps, "num_stages": config.stages},
        )

    def _starts(self) -> list[int]:
        return [int(t.storage_offset()) for t in (self.q, self.k, self.v)]


def whole(windows: Windows, head_dim: int, dtype: torch.dtype, arch: int, training: bool) -> bool:
    """Whether a kernel holds all scores of a window in registers, and saves nothing for the backward pass.

    Where that kernel or the one of its backward pass would spill registers, windows are streamed however small.
    """
    if max(windows.tokens) > WHOLE or block(head_dim) > 32:
        return False
    if block(head_dim) == 32 and arch < 90:
        return dtype.itemsize == 2 and not training
    return dtype.itemsize == 2 or not training


@lru_cache
def architecture(device: torch.device) -> int:
    """Compute capability times 10; away from a GPU, an H100's."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def block(n: int) -> int:
    """The tile that holds n: a power of two that matrix units take."""
    return max(16, 1 << (n - 1).bit_length())


def tile_count(window: tuple[int, int], size: int, columns: int) -> int:
    """Tiles of `size` tokens, `columns` wide, that cover a window."""
    return -(-window[0] // (size // columns)) * -(-window[1] // columns)


def columns(window: tuple[int, int], size: int) -> int:
    """Columns of a tile of `size` tokens, a power of two, such that the fewest tiles cover the window."""
    powers = [1 << n for n in range(size.bit_length())]
    return min(reversed(powers), key=lambda columns: tile_count(window, size, columns))


def _base(t: Tensor) -> Tensor:
    """The first number of the storage of t: aligned, where t itself may begin anywhere."""
    return t.as_strided((1,), (1,), 0)


@lru_cache
def parameters(kernel: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the run-time and of the compile-time parameters of a kernel."""
    names = signature(kernel.fn).parameters
    fixed = tuple(n for n, p in names.items() if "constexpr" in str(p.annotation))
    return tuple(n for n in names if n not in fixed), fixed
