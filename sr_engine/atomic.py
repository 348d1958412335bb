"""Files that are either the old one or the whole new one, never half of it."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sr_engine.errors import EngineError


def check_target(path: str | Path, suffixes: Sequence[str] = ()) -> Path:
    """Find out whether a file can be written at `path`, before work of minutes is done for it; writes nothing there.

    Args:
        suffixes: those that the file may have, with their dots, in small letters; none = any.

    Raises:
        EngineError: another suffix, a folder in its place, or its own folder cannot be made or written.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise EngineError(f"{path}: expected a name that ends in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise EngineError(f"{path}: this is a folder; expected the name of a file in it.")
    try:
        there = next(folder for folder in path.absolute().parents if folder.exists())
        trial = there / f".{secrets.token_hex(8)}.tmp"  # root's permissions are found out by trying alone
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise EngineError(f"{path}: nothing can be written there ({error.strerror or error}); name another.") from error
    return path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed onto `path`.

    On any exception the temporary file is removed and `path` stays as it was. The temporary name keeps the suffix of
    `path`, so that libraries which choose a format by suffix work. Missing parent folders are made.

    Raises:
        OSError: the folder cannot be made or written (read-only, disk full).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are private to the user, and a result should have the permissions of any new file.
    temporary = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.tmp{path.suffix}")
    temporary.touch(exist_ok=False)
    permissions = temporary.stat().st_mode & 0o777
    try:
        yield temporary
        temporary.chmod(permissions)  # safetensors puts a private file of its own in this place
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
