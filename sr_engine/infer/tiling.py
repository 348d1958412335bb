"""Upscaling in overlapping tiles, so that a picture of any size needs a bounded amount of memory.

Neighbouring tiles share `overlap` low-resolution pixels. In the middle of the shared strip one tile fades into the
other; the strip's outer parts, where one tile lacks context from beyond its edge, are taken from the other tile alone:

    tile A  ─────────────────┬────────╲··········       overlap = margin + fade + margin
    tile B            ·······┴───────╲╲─────────────    · computed, not used

Where a network sees no further than `margin` pixels, tiled and untiled results are therefore equal. The fade is a
linear interpolation between two equal numbers wherever the tiles agree, so what is constant stays exactly constant and
no weights have to be stored or normalised. Tiles end where the picture ends: borders look as they do untiled.
"""

from collections.abc import Callable, Iterator
from itertools import count, pairwise
from math import ceil, pi
from typing import NamedTuple

import torch
from torch import Tensor

from sr_engine.models.spec import ModelSpec


class Place(NamedTuple):
    """Where a tile begins in its picture, in pixels."""

    top: int
    left: int


ORIGIN = Place(0, 0)
Run = Callable[[Tensor, Place], Tensor]

FADE = 8
"""Width of the cross-fade in low-resolution pixels: wide enough to hide the small differences of unbounded networks."""

AFFORDABLE = 64
"""Overlap that is worth its work even where it is half of a tile."""

UNBOUNDED_OVERLAP = 32
"""Overlap for networks whose receptive field has no bound (attention over the picture, global statistics)."""


def default_overlap(spec: ModelSpec) -> int:
    """The overlap at which tiled equals untiled for this network, or UNBOUNDED_OVERLAP where no overlap does that."""
    radius = spec.receptive_field
    overlap = UNBOUNDED_OVERLAP if radius is None else 2 * radius + FADE
    return _round_up(overlap, spec.size_multiple)


def describe_overlap(spec: ModelSpec) -> str:
    """How far a pixel of this network sees, and from which side of a tile on tiled is therefore equal to untiled."""
    overlap, sees = default_overlap(spec), spec.receptive_field
    if sees is None:
        return f"{overlap} pixels; the network sees without bound, so that tiled differs slightly from untiled"
    side = next(tile for tile in count(2 * overlap) if fitting_overlap(tile, overlap, spec.size_multiple) == overlap)
    return f"{overlap} pixels, for a network that sees {sees}: tiles of {side} and more give what the whole would"


def spans(length: int, *, tile: int | None, overlap: int, multiple: int = 1) -> list[tuple[int, int]]:
    """First and last-plus-one pixel of each tile along an axis of `length` pixels.

    Origins are multiples of `multiple`; neighbours share exactly `overlap` pixels (rounded up to a multiple); no tile
    reaches beyond the axis. As many tiles as `tile` demands are made equally long, so none is larger than needed.

    Raises:
        ValueError: the tile is not larger than its overlap.
    """
    overlap = _round_up(overlap, multiple)
    if tile is None or length <= tile:
        return [(0, length)]
    tile -= tile % multiple
    if tile <= overlap:
        raise ValueError(f"tile must be larger than its overlap of {overlap} pixels, got {tile}")
    number = ceil((length - overlap) / (tile - overlap))
    stride = _round_up(ceil((length - overlap) / number), multiple)
    return [(start, min(start + stride + overlap, length)) for start in range(0, length - overlap, stride)]


def grid(
    size: tuple[int, int], *, tile: int | tuple[int, int] | None, overlap: int | tuple[int, int], multiple: int = 1
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The `spans` of the rows and of the columns of a picture of `size` (height, width); see `tiled_rows`."""
    tiles = tile if isinstance(tile, tuple) else (tile, tile)
    overlaps = overlap if isinstance(overlap, tuple) else (overlap, overlap)
    rows, columns = (
        spans(length, tile=t, overlap=o, multiple=multiple) for length, t, o in zip(size, tiles, overlaps, strict=True)
    )
    return rows, columns


def tiled_rows(
    run: Run,
    x: Tensor,
    *,
    tile: int | tuple[int, int] | None,
    overlap: int | tuple[int, int],
    scale: int,
    multiple: int = 1,
    place: Place = ORIGIN,
) -> Iterator[Tensor]:
    """Finished bands of the upscaled picture, top to bottom, each (B, C, rows, W*scale) where `run` leaves its results.

    Only one row of tiles is held at a time; a consumer that stores or writes each band as it comes needs no memory for
    the whole float result. A band may be overwritten after the next one is asked for.

    Args:
        run: (B, C, h, w) part of `x`, its place -> (B, C', h*scale, w*scale); it may convert dtype and device.
        x: (B, C, H, W), any dtype.
        tile: largest side of a tile, or largest (height, width), in pixels of `x`; None = no tiling.
        overlap: of neighbouring tiles, or (of those below, of those beside each other).
        place: of `x` itself, where it is a tile of something larger.
    """
    height, width = x.shape[-2:]
    rows, columns = grid((height, width), tile=tile, overlap=overlap, multiple=multiple)
    if len(rows) == len(columns) == 1:
        yield _checked(run, x, place, scale)
        return
    carry: Tensor | None = None
    buffer: Tensor | None = None
    for (top, bottom), (next_top, _) in pairwise([*rows, (height, height)]):
        buffer = _band(run, x[..., top:bottom, :], columns, Place(place.top + top, place.left), scale, buffer)
        band = buffer[..., : (bottom - top) * scale, :]
        if carry is not None:
            _blend(carry, band, -2, scale)
            band[..., : carry.shape[-2], :] = carry
        finished = (next_top - top) * scale
        carry = band[..., finished:, :].clone()
        yield band[..., :finished, :]


def upscale_tiled(
    net: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    tile: int | None,
    overlap: int | None = None,
    scale: int,
    multiple: int | None = None,
) -> Tensor:
    """The whole upscaled picture: (B, C, H, W) -> (B, C', H*scale, W*scale), on the device of `x`.

    Args:
        net: a network, or any function that upscales by `scale`. A network that routes attention chooses in each tile
            by itself here; an `Upscaler` has it choose once for the picture.
        tile: largest side of a tile, in pixels of `x`; None = the whole picture at once.
        overlap: pixels shared by neighbouring tiles, less than `tile`; None = what `net.spec` needs
            and the tile can afford (see `fitting_overlap`).
        multiple: tile origins are multiples of it; None = `net.spec.size_multiple`, or 1 for a net without a spec.

    Raises:
        ValueError: the tile is not larger than its overlap.
    """
    spec: ModelSpec | None = getattr(net, "spec", None)
    if multiple is None:
        multiple = spec.size_multiple if spec else 1
    if overlap is None:
        overlap = default_overlap(spec) if spec else UNBOUNDED_OVERLAP
        overlap = overlap if tile is None else fitting_overlap(tile, overlap, multiple)
    bands = tiled_rows(
        lambda part, _: net(part).to(x.device), x, tile=tile, overlap=overlap, scale=scale, multiple=multiple
    )
    return joined(bands, x.shape[-2] * scale)


def joined(bands: Iterator[Tensor], height: int) -> Tensor:
    """The bands of a picture of this height, one below the other, held once."""
    result: Tensor | None = None
    filled = 0
    for band in bands:
        if result is None:
            result = band.new_empty((*band.shape[:2], height, band.shape[-1]))
        result[..., filled : filled + band.shape[-2], :] = band
        filled += band.shape[-2]
    assert result is not None, "spans() gives at least one tile"
    return result


def fitting_overlap(tile: int, overlap: int, multiple: int = 1) -> int:
    """What of `overlap` a tile can afford: a quarter of it (1.8 times the work), or AFFORDABLE within half of it.

    Attention over many stages reaches hundreds of pixels on paper and hardly anything of it in effect.
    """
    most = max(tile // 4, min(AFFORDABLE, tile // 2))
    return min(overlap, most - most % multiple)


def _band(
    run: Run, x: Tensor, columns: list[tuple[int, int]], place: Place, scale: int, buffer: Tensor | None
) -> Tensor:
    """One row of tiles, joined: (B, C, h, W) -> (B, C', h*scale, W*scale), in the first rows of `buffer` if given."""
    first = _checked(run, x[..., slice(*columns[0])], place, scale)
    if buffer is None or buffer.shape[-2] < first.shape[-2]:
        buffer = first.new_empty((*first.shape[:-1], x.shape[-1] * scale))
    band = buffer[..., : first.shape[-2], :]
    band[..., : first.shape[-1]] = first
    filled = first.shape[-1]
    for left, right in columns[1:]:
        patch = _checked(run, x[..., left:right], Place(place.top, place.left + left), scale)
        seam = filled - left * scale
        _blend(band[..., left * scale : filled], patch, -1, scale)
        band[..., filled : right * scale] = patch[..., seam:]
        filled = right * scale
    return buffer


def _checked(run: Run, x: Tensor, place: Place, scale: int) -> Tensor:
    patch = run(x, place)
    expected = (x.shape[-2] * scale, x.shape[-1] * scale)
    if patch.shape[-2:] != expected:
        raise ValueError(f"a network of scale {scale} must make {expected} of this tile, got {tuple(patch.shape[-2:])}")
    return patch


def _blend(old: Tensor, new: Tensor, dim: int, scale: int) -> None:
    """Fade `old` into the pixels that `new` begins with, along `dim`; `old` is overwritten."""
    seam = old.shape[dim]
    fade = min(FADE * scale, ceil(seam / 2))
    margin = (seam - fade) // 2
    if seam == 0:
        return
    # Raised cosine at pixel centres; shaped to broadcast along the other axes.
    phase = (torch.arange(fade, device=old.device, dtype=torch.float32) + 0.5) * (pi / fade)
    weight = (0.5 - 0.5 * torch.cos(phase)).to(old.dtype).view(-1, *[1] * (-1 - dim))
    old.narrow(dim, margin, fade).lerp_(new.narrow(dim, margin, fade), weight)
    rest = seam - margin - fade
    old.narrow(dim, margin + fade, rest).copy_(new.narrow(dim, margin + fade, rest))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
