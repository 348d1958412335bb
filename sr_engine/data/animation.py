"""Animations: frames as they are displayed, one at a time, out of and into GIF, WebP and PNG (APNG) files.

A TIFF of several pages is no animation: `sr_engine.data.images.read_image` takes its first page and says so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from sr_engine.atomic import atomic_write
from sr_engine.data.encoders.frames import ApngFrames, WebpFrames
from sr_engine.data.encoders.header import Header
from sr_engine.data.images import Image, open_picture
from sr_engine.data.metadata import fitting_profile, read_metadata
from sr_engine.data.opened import picture_file
from sr_engine.data.rows import check_fits
from sr_engine.data.samples import to_rgb, to_uint8
from sr_engine.data.sequence import frames_in
from sr_engine.errors import ImageFileError

ANIMATED = ("GIF", "WEBP", "PNG")
_UNSAID_MS = 100.0  # how long browsers show frames that say no time


@dataclass(frozen=True)
class Frame:
    """One frame as displayed, over those before it, and for how many milliseconds."""

    image: Image
    duration_ms: float


@dataclass(frozen=True)
class AnimationInfo:
    """frames: how many; loop: how often they are played, 0 = for ever."""

    frames: int
    loop: int


def frame_count(path: str | Path, content: bytes | None = None) -> int:
    """How many frames a GIF, PNG, WebP or AVIF animation has, 1 for other pictures; nothing is decompressed.

    Raises:
        ImageFileError: as `sr_engine.data.images.read_image`, as far as the header shows.
    """
    return animation_info(path, content).frames


def animation_info(path: str | Path, content: bytes | None = None) -> AnimationInfo:
    """How many frames, and how often they are played.

    Raises:
        ImageFileError: as `frame_count`.
    """
    path = Path(path)
    with picture_file(path, content, header_only=True) as stream, open_picture(stream, path) as file:
        return AnimationInfo(frames_in(file, stream), _plays(file))


def read_frames(path: str | Path, content: bytes | None = None) -> Iterator[Frame]:
    """The frames of an animation in their order, 8 bits, each whole; `image.alpha` is None where a frame is opaque.

    The first frame has the file's descriptions.

    Raises:
        ImageFileError: as `sr_engine.data.images.read_image`, also at a later frame.
    """
    path = Path(path)
    with picture_file(path, content) as stream, open_picture(stream, path) as file:
        # A PNG may have a picture for programs that know no animations, which isn't one of the frames.
        first = 1 if file.format == "PNG" and file.info.get("default_image") else 0
        count = frames_in(file, stream)
        for index in range(first, first + count):
            file.seek(index)
            file.load()
            duration = float(file.info.get("duration") or _UNSAID_MS)
            yield Frame(_image(file, described=index == first), duration)


def write_animation(
    path: str | Path,
    frames: Iterator[Frame],
    form: str,
    *,
    loop: int = 0,
    quality: int = 95,
    lossless: bool = False,
) -> None:
    """Write frames as they come; the file appears when all are there.

    WebP and PNG hold two frames at a time and store of each what differs from the one before. GIF has 256 colours and
    no partial transparency, and its times are rounded to hundredths of a second.

    Args:
        form: GIF, WEBP or PNG. loop: how often it is played, 0 = for ever. quality, lossless: of WebP.

    Raises:
        ImageFileError: another form, no frames, frames of different sizes, one too large for the format, or the file
            cannot be written.
    """
    path = Path(path)
    if form not in ANIMATED:
        raise ImageFileError(f"{path}: {form} cannot hold an animation: write .gif, .webp or .png.")
    checked = _checked(path, frames, form)
    with _named(path), atomic_write(path) as temporary:
        first = next(checked, None)
        if first is None:
            raise ImageFileError(f"{path}: there are no frames to write.")
        if form == "GIF":
            _write_gif(temporary, first, checked, loop)
            return
        with temporary.open("wb") as file:
            header = _header(first.image)
            writer = (
                ApngFrames(file, header, loop) if form == "PNG" else WebpFrames(file, header, loop, quality, lossless)
            )
            writer.add(_rgba(first.image), first.duration_ms)
            for frame in checked:
                writer.add(_rgba(frame.image), frame.duration_ms)
            writer.finish()


def _plays(file: Any) -> int:
    loop = file.info.get("loop")
    if file.format == "GIF":  # how often it is repeated, and without that it is not
        return 1 if loop is None else 0 if loop == 0 else loop + 1
    return loop if isinstance(loop, int) else 0


def _image(file: Any, *, described: bool) -> Image:
    samples = np.asarray(file.convert("RGBA"))
    alpha = None if (samples[:, :, 3] == 255).all() else np.ascontiguousarray(samples[:, :, 3])
    pixels = np.ascontiguousarray(samples[:, :, :3])
    if not described:
        return Image(pixels, alpha)
    said = read_metadata(file)
    icc = fitting_profile(file.info.get("icc_profile"), 3)
    return Image(pixels, alpha, icc, said.exif, said.xmp, said.iptc, said.dpi, tuple(f"{note}." for note in said.notes))


def _checked(path: Path, frames: Iterator[Frame], form: str) -> Iterator[Frame]:
    size: tuple[int, ...] | None = None
    for frame in _of_the_caller(frames):
        shape = frame.image.pixels.shape[:2]
        if size is None:
            size = shape
            check_fits(path, form, shape[1], shape[0])
        if shape != size:
            raise ImageFileError(f"{path}: a frame is {shape[1]} x {shape[0]}, the first was {size[1]} x {size[0]}.")
        yield frame


class _CallersError(Exception):
    """Around what the frames' own iterator raised, which is no matter of this file."""


def _of_the_caller(frames: Iterator[Frame]) -> Iterator[Frame]:
    try:
        yield from frames
    except (OSError, ValueError) as error:
        raise _CallersError from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except _CallersError as error:
        raise (error.__cause__ or error) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise ImageFileError(f"{path}: cannot be written: {reason}.") from error


def _header(image: Image) -> Header:
    height, width = image.pixels.shape[:2]
    icc = fitting_profile(image.icc, 3)
    return Header(width, height, 4, np.uint8, icc, image.exif, image.xmp, image.iptc, image.dpi)


def _rgba(image: Image) -> np.ndarray:
    colour = to_uint8(to_rgb(image.pixels))
    alpha = np.full(colour.shape[:2], 255, np.uint8) if image.alpha is None else to_uint8(image.alpha)
    return np.concatenate((colour, alpha[:, :, None]), axis=2)


def _write_gif(path: Path, first: Frame, others: Iterator[Frame], loop: int) -> None:
    repeats = {} if loop == 1 else {"loop": max(0, loop - 1)}
    start = _for_gif(first)
    with path.open("wb") as file:
        # Frames are replaced whole where something is transparent: what was there before must not show through.
        start.save(file, "GIF", save_all=True, append_images=map(_for_gif, others), disposal=2, **repeats)


def _for_gif(frame: Frame) -> Pillow.Image:
    samples = _rgba(frame.image)
    opaque = samples[:, :, 3] >= 128
    if opaque.all():
        picture = Pillow.fromarray(samples[:, :, :3])
    else:
        samples[:, :, 3] = np.where(opaque, 255, 0)
        samples[~opaque, :3] = 0
        picture = Pillow.fromarray(samples)
    picture.info["duration"] = max(10, round(frame.duration_ms / 10) * 10)
    return picture
