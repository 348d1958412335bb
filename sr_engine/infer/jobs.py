"""Which picture becomes which file: inputs found, results named, and all that can go wrong with names said at once."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from sr_engine.data.animation import frame_count
from sr_engine.data.images import READABLE, output_format
from sr_engine.data.sources import list_pictures
from sr_engine.errors import EngineError, ImageFileError

_FIELDS = ("name", "scale", "model")
_ANIMATED = (".gif", ".webp")  # of PNG the animated form has the same suffix


class Found(NamedTuple):
    """A picture, and its place within the folder of results."""

    source: Path
    place: Path


class Job(NamedTuple):
    source: Path
    target: Path


@dataclass(frozen=True)
class Naming:
    """What the results in a folder are called.

    Args:
        pattern: of a name without its ending, from {name} (of the picture), {scale} and {model}; subfolders by "/".
        scale: what stands for {scale}: 4, 2.5 or 3840x2160.
        form: ending without a dot; "same" = that of the picture where such files can be written; None = png, and that
            of the picture for animated GIF and WebP.

    Raises:
        EngineError: an unknown field, or a pattern that leads out of the folder or doesn't tell pictures apart.
    """

    pattern: str = "{name}_x{scale}"
    scale: str = "4"
    form: str | None = None

    def __post_init__(self) -> None:
        try:
            fields = {name for _, name, _, _ in Formatter().parse(self.pattern) if name is not None}
        except ValueError as error:
            raise EngineError(f"name '{self.pattern}' cannot be read ({error}): write it as {{name}}_big.") from None
        if not fields <= set(_FIELDS) or "name" not in fields:
            known = ", ".join(f"{{{field}}}" for field in _FIELDS)
            raise EngineError(f"name '{self.pattern}' cannot be used: expected {{name}} in it, and of {known} only.")
        path = Path(self.pattern)
        if path.is_absolute() or ".." in path.parts or self.pattern.endswith(("/", os.sep)):
            raise EngineError(f"name '{self.pattern}' leads out of the folder: choose that with -o, as in -o DIR.")
        if self.form not in (None, "same"):
            output_format(f"any.{self.form}")

    def target(self, found: Found, model: str) -> Path:
        """Where a picture's result is, within the folder of results."""
        stem = self.pattern.format(name=found.place.stem, scale=self.scale, model=Path(model).stem)
        return found.place.parent / f"{stem}{self._ending(found.source)}"

    def _ending(self, source: Path) -> str:
        own = source.suffix.lower()
        if self.form == "same":
            return own if _can_be_written(own) else ".png"
        if self.form is None:
            return own if own in _ANIMATED and _can_be_written(own) and _moves(source) else ".png"
        return f".{self.form}"


def find(inputs: Sequence[str | Path], out: str | Path) -> list[Found]:
    """The pictures that inputs name: files, folders with all they contain, and glob patterns.

    Results of an earlier run are left out: what lies in `out` where that is a folder within an input folder.

    Raises:
        EngineError: an input is missing, a pattern matches nothing, or a folder has no pictures.
    """
    found = [picture for path in _expanded(inputs) for picture in _pictures(path, Path(out).resolve())]
    return list(dict.fromkeys(found))


def is_single(inputs: Sequence[str | Path]) -> bool:
    """Whether the inputs are one file."""
    paths = list(_expanded(inputs))
    return len(paths) == 1 and not paths[0].is_dir()


def plan(
    found: Sequence[Found], out: str | Path, naming: Naming, *, single: bool, model: Callable[[Path], str]
) -> list[Job]:
    """Which file becomes which.

    `out` is a file for a single input when it has a suffix and is no existing folder; else it is a folder, where
    pictures of an input folder keep their place within it and are called as `naming` says.

    Args:
        single: whether the inputs were one file.
        model: gives the name of the model for a picture.

    Raises:
        EngineError: two pictures lead to one result, or `out` cannot take the results.
    """
    out = Path(out)
    if single and not out.is_dir() and out.suffix:
        if naming.form not in (None, "same") and output_format(out) != output_format(f"any.{naming.form}"):
            raise EngineError(f"{out}: is not called as a file of format {naming.form}: leave one of the two out.")
        return [Job(found[0].source, out)]
    if out.is_file():
        raise ImageFileError(f"{out}: is a file: expected a folder for the results of several pictures.")
    jobs: dict[Path, Job] = {}
    for picture in found:
        target = out / naming.target(picture, model(picture.source))
        if target in jobs and jobs[target].source != picture.source:
            raise EngineError(
                f"{jobs[target].source} and {picture.source} would both become {target}: rename one of them, or pass "
                "--format same."
            )
        jobs[target] = Job(picture.source, target)
    # A second run over a folder that holds its own results: those are no pictures to upscale once more.
    results = {target.resolve() for target, job in jobs.items() if target.resolve() != job.source.resolve()}
    return [job for job in jobs.values() if job.source.resolve() not in results]


def check_targets(jobs: Sequence[Job]) -> None:
    """Find out, for all jobs and before any work, whether results can be written.

    Raises:
        ImageFileError: a format that is not written, an input that is its own result, a folder that cannot be used.
    """
    folders: set[Path] = set()
    for source, target in jobs:
        output_format(target)
        if target.exists() and source.exists() and target.samefile(source):
            raise ImageFileError(f"{target}: is the input itself: choose another output.")
        if target.parent in folders:
            continue
        folders.add(target.parent)
        folder = next(parent for parent in target.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ImageFileError(f"{target}: cannot be written: {folder} is no folder that you may write in.")


def _expanded(inputs: Sequence[str | Path]) -> Iterator[Path]:
    for given in inputs:
        path = Path(given)
        if _exists(path):
            yield path
        elif not glob.has_magic(str(given)):
            raise ImageFileError(f"{path}: does not exist.")
        else:
            matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207
            if not matches:
                raise ImageFileError(f"{given}: matches no file.")
            yield from map(Path, matches)


def _pictures(path: Path, out: Path) -> Iterator[Found]:
    if not path.is_dir():
        yield Found(path, Path(path.name))
        return
    inside = out != path.resolve() and out.is_relative_to(path.resolve())
    for picture in list_pictures(path, READABLE):
        if not (inside and picture.resolve().is_relative_to(out)):
            yield Found(picture, picture.relative_to(path))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name longer than the system's, a circle of links
        raise ImageFileError(f"{path}: cannot be opened: {error.strerror}.") from error


def _can_be_written(ending: str) -> bool:
    try:
        return bool(output_format(f"any{ending}"))
    except ImageFileError:
        return False


def _moves(source: Path) -> bool:
    try:
        return frame_count(source) > 1
    except EngineError:  # said where the picture is read
        return False
