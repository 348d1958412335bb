"""From a data set in a configuration to checked pictures: every unusable one is reported, all at once."""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sr_engine.config import registry
from sr_engine.data.bicubic import Bicubic
from sr_engine.data.degradation import Degradation
from sr_engine.data.photo import Photo
from sr_engine.data.pictures import Picture, PictureCache, header_size
from sr_engine.data.realworld import RealWorld
from sr_engine.data.sources import Role, Source
from sr_engine.errors import DataError, ImageFileError

log = logging.getLogger(__name__)
T = TypeVar("T")

_NAMED_AT_MOST = 100
_DEGRADATIONS: dict[str, Callable[..., Degradation]] = {"bicubic": Bicubic, "photo": Photo, "real_world": RealWorld}


class Typed(Protocol):
    """A `type` with its `arguments`, as `sr_engine.config.schema.Typed`."""

    @property
    def type(self) -> str: ...
    @property
    def arguments(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class PictureSet:
    """Checked pictures and how samples are made of them.

    sizes:       HR height and width of each picture.
    degradation: makes low-resolution pictures where there are no ready-made ones.
    complete:    whether all pictures were decoded by the check and fit into `cache` together.
    in_memory:   whether patches are cut on the training device, from all pictures at once.
    """

    pictures: tuple[Picture, ...]
    sizes: tuple[tuple[int, int], ...]
    cache: PictureCache
    complete: bool
    degradation: Degradation
    hard_sampling: float
    augment: bool
    on_bad_file: str
    workers: int | None
    in_memory: bool

    def __len__(self) -> int:
        return len(self.pictures)


def build_dataset(
    typed: Typed | tuple[str, Mapping[str, Any]], *, scale: int, patch_size: int | None = None, role: Role
) -> PictureSet:
    """List and check the pictures of a data set.

    All file headers are read; if the decoded pictures fit into `cache_mb`, all pictures are decoded as well, so that
    damaged ones are found now and training starts with them in memory.

    Args:
        typed: name and arguments of a registered data set.
        scale: enlargement that will be trained, 1 to 4.
        patch_size: side of a training patch in LR pixels; unused for validation.
        role: training patches or whole pictures for validation.

    Raises:
        DataError: nothing usable, arguments that do not fit, or (with `on_bad_file: error`) any unusable picture; the
            message names them all.
    """
    name, source, pictures, sizes, bad = _listed(typed, scale, patch_size, role)
    limit = source.cache_mb * 2**20
    decoded = 3 * sum(height * width for height, width in sizes.values()) * (1 + 1 / scale**2)
    complete = decoded <= limit
    in_memory = source.in_memory and role == "train"
    degradation = _degradation(source.degradation)
    if in_memory:
        _check_in_memory(name, degradation, math.ceil(decoded / 2**20), source.cache_mb)
    cache = PictureCache(limit)
    if complete:
        # A rectangle's neighbours in the same file are decoded again: files of several rectangles are few.
        _, damaged = _try_all(cache.get, list(sizes))
        bad |= damaged
    _report(bad, len(pictures), name, source.on_bad_file)
    good = [picture for picture in pictures if picture not in bad]
    return PictureSet(
        pictures=tuple(good),
        sizes=tuple(sizes[picture] for picture in good),
        cache=cache,
        complete=complete,
        degradation=degradation,
        hard_sampling=source.hard_sampling,
        augment=source.augment,
        on_bad_file=source.on_bad_file,
        workers=source.workers,
        in_memory=in_memory,
    )


def count_pictures(
    typed: Typed | tuple[str, Mapping[str, Any]], *, scale: int, patch_size: int | None = None, role: Role
) -> int:
    """How many pictures `build_dataset` will find usable, from their headers alone.

    Raises:
        DataError: what the headers show of the errors of `build_dataset`.
    """
    name, source, pictures, sizes, bad = _listed(typed, scale, patch_size, role)
    _refuse(bad, len(pictures), name, source.on_bad_file)
    return len(sizes)


def _listed(
    typed: Typed | tuple[str, Mapping[str, Any]], scale: int, patch_size: int | None, role: Role
) -> tuple[str, Source, list[Picture], dict[Picture, tuple[int, int]], dict[Picture, ImageFileError]]:
    """Name and source of a data set, all its pictures, the sizes of the usable ones, and what is wrong with others."""
    name, arguments = typed if isinstance(typed, tuple) else (typed.type, typed.arguments)
    try:
        source: Source = registry.build("dataset", name, **arguments)
    except TypeError as error:
        raise DataError(f"data set '{name}': {error}.") from None
    pictures = list(source.pictures(role=role, scale=scale))
    least = scale if role == "val" else scale * (patch_size or 1)
    return name, source, pictures, *_try_all(lambda picture: _checked_size(picture, scale, least), pictures)


def _check_in_memory(name: str, degradation: Degradation, needed_mb: int, cache_mb: int) -> None:
    if degradation.drawn:
        raise DataError(
            f"data set '{name}': in_memory keeps ready-reduced pictures, but the degradation {degradation.type} is "
            "drawn anew for every patch: remove in_memory, or use degradation: bicubic."
        )
    if needed_mb > cache_mb:
        raise DataError(
            f"data set '{name}': in_memory needs all pictures decoded, {needed_mb} MiB, but cache_mb is {cache_mb}: "
            "raise it where the memory is there, or remove in_memory."
        )


def _checked_size(picture: Picture, scale: int, least: int) -> tuple[int, int]:
    height, width = header_size(picture, scale)
    if min(height, width) < least:
        raise ImageFileError(f"{picture.hr}: is {width}x{height}, expected at least {least}x{least} pixels.")
    return height, width


def _try_all(
    function: Callable[[Picture], T], pictures: Sequence[Picture]
) -> tuple[dict[Picture, T], dict[Picture, ImageFileError]]:
    """Results and errors of a function over all pictures, computed in threads (decoders release the GIL)."""
    good: dict[Picture, T] = {}
    bad: dict[Picture, ImageFileError] = {}

    def attempt(picture: Picture) -> None:
        try:
            good[picture] = function(picture)
        except ImageFileError as error:
            bad[picture] = error

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(attempt, pictures))
    return good, bad


def _report(bad: Mapping[Picture, ImageFileError], total: int, name: str, on_bad_file: str) -> None:
    if bad:
        listing = _refuse(bad, total, name, on_bad_file)
        log.warning("data set '%s': skipping %d of %d pictures:%s", name, len(bad), total, listing)


def _refuse(bad: Mapping[Picture, ImageFileError], total: int, name: str, on_bad_file: str) -> str:
    """The unusable pictures as text; a DataError if there may be none, or if there are only those."""
    lines = sorted({str(error) for error in bad.values()})
    if len(lines) > _NAMED_AT_MOST:
        lines[_NAMED_AT_MOST:] = [f"and {len(lines) - _NAMED_AT_MOST} more."]
    listing = "\n  ".join(["", *lines])
    if bad and len(bad) == total:
        raise DataError(f"data set '{name}': none of its {total} pictures can be used:{listing}")
    if bad and on_bad_file == "error":
        raise DataError(
            f"data set '{name}': {len(bad)} of {total} pictures cannot be used; "
            f"repair or remove them, or set on_bad_file: skip:{listing}"
        )
    return listing


def _degradation(value: Any) -> Degradation:
    if not isinstance(value, str | Mapping):
        return value
    given = value if isinstance(value, Mapping) else {"type": value}
    make = _DEGRADATIONS.get(given.get("type", "real_world"))
    if make is None:
        raise DataError(
            f"degradation '{given['type']}' is unknown: use {', '.join(_DEGRADATIONS)} or a mapping of one of these "
            "as its type with its arguments."
        )
    try:
        return make(**{key: item for key, item in given.items() if key != "type"})
    except TypeError as error:
        raise DataError(f"degradation: {error}.") from None
