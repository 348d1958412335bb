"""Files opened so that nothing hangs, nothing changes unnoticed, and whatever goes wrong becomes one sentence."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image as Pillow

from sr_engine.errors import EngineError, ImageFileError

# Up to this many bytes a file is read once, whole: what happens to it afterwards doesn't matter.
IN_MEMORY = 1 << 28
FORMATS_READ = "PNG, JPEG, WEBP, TIFF, BMP, GIF, PPM, AVIF, HEIC"


@contextmanager
def picture_file(path: Path, content: bytes | None = None, *, header_only: bool = False) -> Iterator[BinaryIO]:
    """The bytes of a picture file, seekable; every exception inside the block becomes an ImageFileError naming `path`.

    Args:
        content: the file's bytes, where they don't come from `path`.
        header_only: little of the file will be read, so it isn't taken into memory.

    Raises:
        ImageFileError: missing, not a regular file, no permission, changed while it was read, or what the block raised.
    """
    with _named_errors(path):
        if content is not None:
            yield io.BytesIO(content)
            return
        with _regular_file(path) as file:
            before = os.fstat(file.fileno())
            if header_only:
                yield file
            elif before.st_size <= IN_MEMORY:
                whole = file.read(before.st_size + 1)
                _check_unchanged(path, before, os.fstat(file.fileno()), len(whole))
                yield io.BytesIO(whole)
            else:
                try:
                    yield file
                finally:
                    _check_unchanged(path, before, os.fstat(file.fileno()), before.st_size)


def _regular_file(path: Path) -> BinaryIO:
    # Not blocking: opening a named pipe would otherwise wait for somebody to write to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        if path.is_dir():  # elsewhere than on Linux a folder cannot be opened at all
            raise ImageFileError(f"{path}: is a folder, expected a picture.")
        number = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageFileError(f"{path}: does not exist.") from None
    except PermissionError as error:
        raise ImageFileError(f"{path}: cannot be opened: no permission.") from error
    except (OSError, ValueError) as error:  # a name too long, links in a circle, a name with a zero character
        raise ImageFileError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}.") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ImageFileError(f"{path}: is a pipe, socket or device, expected a picture file.")
    return os.fdopen(number, "rb")


def _check_unchanged(path: Path, before: os.stat_result, after: os.stat_result, read: int) -> None:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or read != before.st_size:
        raise ImageFileError(f"{path}: changed while it was being read: try again when it is complete.")


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder throws at damaged input (Pillow's throw nearly anything) into one sentence."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise ImageFileError(f"{path}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, Pillow.DecompressionBombError):
        return f"has more than {2 * (Pillow.MAX_IMAGE_PIXELS or 0):,} pixels; cut it into parts first"
    if isinstance(error, Pillow.DecompressionBombWarning):  # where warnings are made errors
        return f"has more than {Pillow.MAX_IMAGE_PIXELS or 0:,} pixels, which Pillow warns of: {error}"
    if isinstance(error, Pillow.UnidentifiedImageError):
        return f"is not a picture in a known format ({FORMATS_READ})"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    said = " ".join(str(error).split()).rstrip(".")
    if "MAX_TEXT" in said:
        return "has compressed text or a profile that grows beyond 1 MiB, as a trap would: remove its metadata first"
    return f"is damaged or truncated ({said or type(error).__name__})"
