"""One run at a time in a folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sr_engine.atomic import remove_leftovers
from sr_engine.errors import TrainingError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_FILE = "run.lock"


@contextmanager
def sole_run(output: Path) -> Iterator[None]:
    """Keep other runs out of a run's folder, and remove what killed ones have left half written there.

    The system forgets the lock with the process, however that ends. Where the file system knows no locks, nothing is
    locked.

    Raises:
        TrainingError: another run has the folder, or nothing can be written there.
    """
    path, new = output / LOCK_FILE, not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
    except OSError as error:
        raise TrainingError(
            f"{output}: nothing can be written there ({error.strerror or error}): make the folder writable or choose "
            "another --output."
        ) from error
    try:
        with suppress(OSError):  # no room even for this: the run will say so
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        remove_leftovers([output, output / "checkpoints", *(output / "visualization").glob("**/")])
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before it is free, so that nobody has locked this file and another a new one
        os.close(descriptor)
        if new:
            with suppress(OSError):  # only where the run was refused and has left nothing
                output.rmdir()


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor  # else the run before removed it after we had opened it
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        raise TrainingError(
            f"{path.parent} is being written by another run ({owner}): wait for its end, stop it, or choose another "
            "--output."
        ) from None
    except OSError:  # a file system without locks
        return
