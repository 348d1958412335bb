"""Where the windows of one attention lie: the same integer rules for every implementation.

Everything is separable, so `Axis` says it once for rows and once for columns. Three coordinates occur on an axis:

- *map*: 0 <= p < size, a row of the tensor that was passed in;
- *padded*: the map extended to `padded`, the next multiple of `multiple`; what lies beyond the map is "outside";
- *rolled*: where windows are cut. Query window w holds r = w * queries + t (block) or r = t * count + w (grid).

`pad_roll` (SwinIR, torchvision, DAT) rolls the padded map: p = (r + shift) mod padded. `roll_pad` (timm) rolls the map
and pads what came out: p = (r + shift) mod size for r < size, outside for the rest. In both the seam of the roll,
across which `penalty` is added to the logits, lies at r = padded - shift, as the masks of both families have it.
"""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch
from torch import Tensor

Pair = tuple[int, int]
Layout = Literal["block", "grid"]
Outside = Literal["error", "zero", "token"]
Order = Literal["roll_pad", "pad_roll"]


@dataclass(frozen=True, init=False)
class Windows:
    """The cut of a map into attention windows; a pair is (rows, columns), one int means both.

    Args:
        size: query window in pixels of the query map.
        shift: cyclic shift, 0 <= shift < size per axis: the map is rolled by -shift before it is cut and back after.
        keys: key window in pixels of the key map; default `key_step`. Larger than `key_step`: overlapping windows
            (HAT's OCAB: size 16, keys 24, key_offset -4).
        key_step: advance of the key window from one query window to the next, in pixels of the key map; default `size`.
            Smaller than `size`: keys and values come on a map of lower resolution, `size / key_step` times smaller
            (SRFormer's PSA: size 24, key_step 12). It must divide `size`, and the key map measures
            (H * key_step / size) x (W * key_step / size).
        key_offset: start of the key window relative to w * key_step, on the rolled key map.
        layout: "block": windows are adjacent pixels; "grid": a window takes every count-th pixel (MaxViT's and OmniSR's
            grid attention), unshifted and with keys = size only.
        outside: what the attention sees beyond the map. "error": nothing may lie outside; "zero": keys and values are
            zero vectors, "token": they are `pad_token` (the projection's bias, for networks that pad before it). Either
            way such a key stays in the softmax with its bias. Outputs outside the map are dropped.
        order: whether the map is padded before it is rolled or after; see the top of this file.
        penalty: added to the logit of every query/key pair that the seam of the roll separates (per axis; once even if
            both axes do). -100 as Swin; `-inf` forbids such pairs (SCUNet); 0 rolls without a mask (SRFormer as
            first released: its mask is constant along the keys and cancels; later revisions mask as Swin).
        multiple: the map is padded to a multiple of this; default `size` (DAT: the longer window side, on both axes).

    Raises:
        ValueError: fields that contradict each other.
    """

    size: Pair
    shift: Pair
    keys: Pair
    key_step: Pair
    key_offset: Pair
    layout: Layout
    outside: Outside
    order: Order
    penalty: float
    multiple: Pair

    def __init__(
        self,
        size: int | Pair,
        shift: int | Pair = (0, 0),
        keys: int | Pair | None = None,
        key_step: int | Pair | None = None,
        key_offset: int | Pair = (0, 0),
        layout: Layout = "block",
        outside: Outside = "error",
        order: Order = "roll_pad",
        penalty: float = -100.0,
        multiple: int | Pair | None = None,
    ) -> None:
        key_step = size if key_step is None else key_step
        keys = key_step if keys is None else keys
        multiple = size if multiple is None else multiple
        values = (
            _pair("size", size),
            _pair("shift", shift),
            _pair("keys", keys),
            _pair("key_step", key_step),
            _pair("key_offset", key_offset),
            layout,
            outside,
            order,
            float(penalty),
            _pair("multiple", multiple),
        )
        for field, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)
        self._check()

    def _check(self) -> None:
        for name, value, allowed in (
            ("layout", self.layout, get_args(Layout)),
            ("outside", self.outside, get_args(Outside)),
            ("order", self.order, get_args(Order)),
        ):
            if value not in allowed:
                raise ValueError(f"Windows: {name} must be one of {', '.join(allowed)}, got {value!r}")
        for name in ("size", "keys", "key_step", "multiple"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"Windows: {name} must be at least 1 per axis, got {getattr(self, name)}")
        for size, shift, step, multiple in zip(self.size, self.shift, self.key_step, self.multiple, strict=True):
            if not 0 <= shift < size:
                raise ValueError(f"Windows: shift must be >= 0 and < size per axis, got {self.shift} for {self.size}")
            if size % step:
                raise ValueError(f"Windows: key_step {self.key_step} must divide size {self.size} per axis")
            if shift * step % size:
                raise ValueError(
                    f"Windows: shift {self.shift} is not a whole number of key pixels at key_step {self.key_step}"
                )
            if multiple % size:
                raise ValueError(f"Windows: multiple {self.multiple} must be a multiple of size {self.size} per axis")
        if self.layout == "grid" and (any(self.shift) or not self.keys_are_queries):
            raise ValueError(
                "Windows: layout='grid' takes neither shift nor own key windows; leave them at their defaults"
            )
        if not self.penalty <= 0:
            raise ValueError(f"Windows: penalty must be <= 0, got {self.penalty}")

    @property
    def keys_are_queries(self) -> bool:
        """Whether each window attends to exactly its own pixels."""
        return self.keys == self.key_step == self.size and self.key_offset == (0, 0)

    @property
    def tokens(self) -> Pair:
        """Queries and keys in one window."""
        return self.size[0] * self.size[1], self.keys[0] * self.keys[1]

    @property
    def table_rows(self) -> int:
        """Rows of a compact bias table: (key_step + keys - 1) per axis, (2 * size - 1) for Swin's windows."""
        rows, columns = (step + keys - 1 for step, keys in zip(self.key_step, self.keys, strict=True))
        return rows * columns

    def relative_index(self, device: torch.device | None = None) -> Tensor:
        """(Nq, Nk) int64: the table row of each query/key pair, row-major tokens.

        Swin's rule per axis, i = q // (size / key_step) - k + keys - 1, and rows combine as
        i_y * (key_step_x + keys_x - 1) + i_x. The key offset shifts all pairs alike and is no part of it.
        """
        axes = []
        for size, step, keys in zip(self.size, self.key_step, self.keys, strict=True):
            query = torch.arange(size, device=device) // (size // step)
            axes.append(query[:, None] - torch.arange(keys, device=device) + keys - 1)
        width = self.key_step[1] + self.keys[1] - 1
        return (axes[0][:, None, :, None] * width + axes[1][None, :, None, :]).reshape(self.tokens)

    def axes(self, height: int, width: int) -> tuple["Axis", "Axis"]:
        """The two axes of a query map of this size."""
        rows, columns = (
            Axis(
                size=size,
                queries=self.size[i],
                shift=self.shift[i],
                keys=self.keys[i],
                key_step=self.key_step[i],
                key_offset=self.key_offset[i],
                padded=(size + self.multiple[i] - 1) // self.multiple[i] * self.multiple[i],
                grid=self.layout == "grid",
                pad_first=self.order == "pad_roll",
            )
            for i, size in enumerate((height, width))
        )
        return rows, columns

    def encode(self) -> tuple[list[int], str]:
        """All fields but the penalty in types that an operator schema knows; `decode` reads them back."""
        pairs = (self.size, self.shift, self.keys, self.key_step, self.key_offset, self.multiple)
        return [n for pair in pairs for n in pair], f"{self.layout} {self.outside} {self.order}"


def decode(numbers: list[int], words: str, penalty: float) -> Windows:
    """The Windows that `Windows.encode` wrote."""
    size, shift, keys, key_step, key_offset, multiple = ((numbers[i], numbers[i + 1]) for i in range(0, 12, 2))
    layout, outside, order = words.split()
    return Windows(size, shift, keys, key_step, key_offset, layout, outside, order, penalty, multiple)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Axis:
    """One axis of a cut map, in integers."""

    size: int
    queries: int
    shift: int
    keys: int
    key_step: int
    key_offset: int
    padded: int
    grid: bool
    pad_first: bool

    @property
    def count(self) -> int:
        """Windows along this axis."""
        return self.padded // self.queries

    @property
    def key_size(self) -> int:
        return self.size * self.key_step // self.queries

    @property
    def key_padded(self) -> int:
        return self.count * self.key_step

    @property
    def key_shift(self) -> int:
        return self.shift * self.key_step // self.queries

    @property
    def reaches_outside(self) -> bool:
        """Whether any query or key lies beyond the map."""
        last_key = (self.count - 1) * self.key_step + self.key_offset + self.keys
        return self.padded != self.size or self.key_offset < 0 or last_key > self.key_padded

    def query_positions(self, device: torch.device | None = None) -> Tensor:
        """(count, queries) int64 map positions; -1 is outside."""
        return self._to_map(self._query_rolled(device), self.size, self.padded, self.shift)

    def key_positions(self, device: torch.device | None = None) -> Tensor:
        """(count, keys) int64 positions on the key map; -1 is outside."""
        return self._to_map(self._key_rolled(device), self.key_size, self.key_padded, self.key_shift)

    def beyond_seam(self, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """(count, queries) and (count, keys) bool: which tokens lie beyond the seam of the roll."""
        if not self.shift:
            return (
                torch.zeros(self.count, self.queries, dtype=torch.bool, device=device),
                torch.zeros(self.count, self.keys, dtype=torch.bool, device=device),
            )
        return (
            self._query_rolled(device) >= self.padded - self.shift,
            self._key_rolled(device) >= self.key_padded - self.key_shift,
        )

    def seam_windows(self) -> int:
        """How many windows at the end of the axis hold tokens from beyond the seam; the others need no mask."""
        if not self.shift:
            return 0
        reach = max(0, self.key_offset + self.keys - self.key_step + self.key_shift)
        return min(self.count, max(1, -(-reach // self.key_step)))

    def _query_rolled(self, device: torch.device | None) -> Tensor:
        window = torch.arange(self.count, device=device)[:, None]
        token = torch.arange(self.queries, device=device)
        return token * self.count + window if self.grid else window * self.queries + token

    def _key_rolled(self, device: torch.device | None) -> Tensor:
        if self.grid:
            return self._query_rolled(device)
        window = torch.arange(self.count, device=device)[:, None]
        return window * self.key_step + self.key_offset + torch.arange(self.keys, device=device)

    def _to_map(self, rolled: Tensor, size: int, padded: int, shift: int) -> Tensor:
        length = padded if self.pad_first else size
        position = rolled
        if shift:
            # One subtraction wraps what is inside; ONNX has no remainder by a dynamic size.
            position = rolled + shift % length
            position = torch.where(position >= length, position - length, position)
        outside = (rolled < 0) | (rolled >= length) | (position >= size)
        return torch.where(outside, -1, position)


def _pair(name: str, value: int | Pair) -> Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(n, int) for n in pair):
        raise ValueError(f"Windows: {name} must be an int or a pair of ints (rows, columns), got {value!r}")
    return pair
