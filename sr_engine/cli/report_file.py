"""Reports that verbs write beside what they print."""

from pathlib import Path

from sr_engine.atomic import atomic_write
from sr_engine.errors import EngineError


def write_report(path: str, text: str) -> None:
    """Write the text of a report, whole or not at all.

    Raises:
        EngineError: the file cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            Path(temporary).write_text(text, encoding="utf-8")
    except OSError as error:
        raise EngineError(f"{path}: the report cannot be written: {error.strerror or error}.") from error
