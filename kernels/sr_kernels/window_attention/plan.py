"""Which pixel each token of each window is, for the fast PyTorch path: whole pixels move by row number.

Windows are ordered by the mask they need, a handful of kinds at most: all windows before the seam of the roll first.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sr_kernels.window_attention.plan_cache import kept
from sr_kernels.window_attention.windows import Axis, Windows


class Group(NamedTuple):
    """Windows start..stop; `apart` (Nq, Nk) bool marks the query/key pairs with the seam of the roll between them."""

    start: int
    stop: int
    apart: Tensor | None


class Plan(NamedTuple):
    """`queries` (windows, Nq) and `keys` (windows, Nk) are rows of the maps flattened to (pixels, channels).

    The row after the last pixel stands for everything outside the map.
    """

    queries: Tensor
    keys: Tensor
    groups: list[Group]
    reaches_outside: bool


def plan_of(batch: int, height: int, width: int, windows: Windows, device: torch.device) -> Plan:
    """The plan of a batch of query maps of this size. Only to be read: the next call gets the same one."""
    key = (batch, height, width, windows)
    return kept.get(key, device, lambda: make_plan(batch, height, width, windows, device))


def relative_index(windows: Windows, device: torch.device) -> Tensor:
    """`Windows.relative_index` flattened. Only to be read."""
    return kept.get(windows, device, lambda: windows.relative_index(device).flatten())


def make_plan(batch: int, height: int, width: int, windows: Windows, device: torch.device) -> Plan:
    """`plan_of`, made anew."""
    rows, columns = windows.axes(height, width)
    query_y, query_x = rows.query_positions(device), columns.query_positions(device)
    key_y, key_x = rows.key_positions(device), columns.key_positions(device)
    masked = bool(windows.penalty) and any(windows.shift)
    queries, keys, groups, start = [], [], [], 0
    for y in _parts(rows) if masked else [slice(None)]:
        for x in _parts(columns) if masked else [slice(None)]:
            queries.append(_pixels(query_y[y], query_x[x], batch, rows.size, columns.size))
            if not windows.keys_are_queries:
                keys.append(_pixels(key_y[y], key_x[x], batch, rows.key_size, columns.key_size))
            stop = start + len(queries[-1])
            groups.append(Group(start, stop, _apart(rows, columns, y, x, device) if masked else None))
            start = stop
    outside = rows.reaches_outside or columns.reaches_outside
    flat = torch.cat(queries)
    return Plan(flat, torch.cat(keys) if keys else flat, groups, outside)


def with_outside(flat: Tensor, outside: Tensor | None, plan: Plan) -> Tensor:
    """(pixels, channels) with the row `outside`, or zero, appended if any window needs it."""
    if not plan.reaches_outside:
        return flat
    row = flat.new_zeros(flat.shape[1]) if outside is None else outside.to(flat.dtype)
    return torch.cat([flat, row[None]])


def largest_group(plan: Plan) -> int:
    """Most windows that share a mask."""
    return max(group.stop - group.start for group in plan.groups)


def add_rows(flat: Tensor, rows: Tensor, values: Tensor) -> None:
    """(n, channels) added into (count, channels) by row number, in the same order on every run."""
    if flat.device.type == "cpu":
        flat.index_add_(0, rows, values)
    else:
        flat.index_put_((rows,), values, accumulate=True)  # sorts first; index_add_ would use atomics


def _parts(axis: Axis) -> list[slice]:
    """The windows without the seam together, then each window that reaches it."""
    plain = axis.count - axis.seam_windows()
    return [slice(0, plain)] * bool(plain) + [slice(i, i + 1) for i in range(plain, axis.count)]


def _apart(rows: Axis, columns: Axis, y: slice, x: slice, device: torch.device) -> Tensor | None:
    """The pairs apart in the windows (y, x), the same in each; None where the seam is far."""
    if y.stop <= rows.count - rows.seam_windows() and x.stop <= columns.count - columns.seam_windows():
        return None
    sides = []
    for axis, part in ((rows, y), (columns, x)):
        query, key = axis.beyond_seam(device)
        sides.append(query[part][0, :, None] != key[part][0, None, :])
    apart = sides[0][:, None, :, None] | sides[1][None, :, None, :]
    return apart.reshape(rows.queries * columns.queries, rows.keys * columns.keys)


def _pixels(y: Tensor, x: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Positions (rows, Wh) and (columns, Ww) -> (batch * rows * columns, Wh * Ww) rows of the flattened maps."""
    y, x = y[:, None, :, None], x[None, :, None, :]
    image = torch.arange(batch, device=y.device)[:, None, None, None, None] * (height * width)
    pixels = torch.where((y < 0) | (x < 0), batch * height * width, image + y * width + x)
    return pixels.flatten(3).flatten(0, 2)
