"""Standard input and output as files, so that nothing else has to know of them."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sr_engine.errors import EngineError

STANDARD = "-"
_FOLDER = "sr-engine-"


@contextmanager
def as_files(
    inputs: Sequence[str | Path], out: str | Path, form: str
) -> Iterator[tuple[Sequence[str | Path], str | Path]]:
    """Inputs and output with a temporary file in place of each "-": the one for output is written to standard output
    when all went well, so that its reader gets a whole picture or nothing.

    Args:
        form: ending of the output's name, without a dot.

    Raises:
        EngineError: standard input is a terminal, or named twice; and whatever is raised inside, with these files
            called stdin and stdout.
    """
    given, wanted = [str(path) for path in inputs].count(STANDARD), str(out) == STANDARD
    if given > 1:
        raise EngineError("standard input (-) was named twice: it is one picture.")
    if not given and not wanted:
        yield inputs, out
        return
    if given and sys.stdin.isatty():
        raise EngineError("standard input (-) is a terminal: pipe a picture into it.")
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
        source, target = Path(folder) / "stdin", Path(folder) / f"stdout.{form}"
        if given:
            with source.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield [source if str(path) == STANDARD else path for path in inputs], target if wanted else out
        except EngineError as error:
            raise type(error)(str(error).replace(f"{folder}/", "")) from error
        if wanted:
            with target.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def shown(path: Path) -> str:
    """What a file is called in front of people."""
    return path.stem if path.parent.name.startswith(_FOLDER) else str(path)
