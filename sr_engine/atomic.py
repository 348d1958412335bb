"""Files that are either the old one or the whole new one, never half of it."""

import os
import re
import secrets
import socket
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sr_engine.errors import EngineError

# Of a temporary file: begin of the name, machine, process, chance, suffix.
_TEMPORARY = re.compile(r"\..{0,40}\.([0-9a-f]{8})-([0-9a-f]+)-[0-9a-f]{8}\.tmp(\..*)?", re.DOTALL)
_own: set[str] = set()  # names that this process has given


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
    `path`, so that libraries which choose a format by suffix work. Missing parent folders are made. What a process
    leaves that is killed meanwhile is removed by `remove_leftovers`.

    Raises:
        OSError: the folder cannot be made or written (read-only, disk full).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are private to the user, and a result should have the permissions of any new file.
    temporary = path.with_name(temporary_name(path.stem, path.suffix))
    temporary.touch(exist_ok=False)
    permissions = temporary.stat().st_mode & 0o777
    try:
        yield temporary
        temporary.chmod(permissions)  # safetensors puts a private file of its own in this place
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        _own.discard(temporary.name)


def temporary_name(stem: str, suffix: str = "") -> str:
    """A new name for a temporary file, by which `remove_leftovers` knows whose it is."""
    name = f".{stem[:40]}.{_machine()}-{os.getpid():x}-{secrets.token_hex(4)}.tmp{suffix}"
    _own.add(name)
    return name


def remove_leftovers(folders: Iterable[Path], *, others: bool = True) -> list[Path]:
    """Remove temporary files whose process was killed, directly in these folders; returns them.

    Files of other processes that run on this machine stay.

    Args:
        others: whether files of other machines are removed too: of their processes nothing is known.
    """
    removed = []
    for folder in folders:
        for path in folder.glob(".*") if folder.is_dir() else ():
            match = _TEMPORARY.fullmatch(path.name)
            if match is None or path.name in _own or (match[1] != _machine() and not others):
                continue
            if not _is_written(match[1], int(match[2], 16)):
                with suppress(OSError):
                    path.unlink()
                    removed.append(path)
    return removed


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_written(machine: str, process: int) -> bool:
    """Whether another process of this machine has this number; ours was another's where numbers begin anew."""
    if machine != _machine() or process == os.getpid() or os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Have the new name survive a power failure too, where the system can."""
    with suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
