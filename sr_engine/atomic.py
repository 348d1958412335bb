"""Files that are either the old one or the whole new one, never half of it."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
