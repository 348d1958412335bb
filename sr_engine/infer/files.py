"""Picture files and folders through an upscaler."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sr_engine.data.images import Image, output_format, read_image, write_image
from sr_engine.data.sources import list_pictures
from sr_engine.errors import EngineError, ImageFileError
from sr_engine.infer.default_model import SCALE, choose, default_model
from sr_engine.infer.upscaler import Upscaler


class Job(NamedTuple):
    source: Path
    target: Path


class Upscaled(NamedTuple):
    """One picture's outcome; `error` is None when `target` was written. Sizes are (width, height)."""

    job: Job
    seconds: float
    size: tuple[int, int] | None = None
    error: str | None = None


def upscale_file(up: Upscaler, source: str | Path, target: str | Path, *, overwrite: bool = False) -> Image:
    """Upscale one file into another: bit depth, grey, alpha, ICC profile and EXIF are kept, orientation applied once.

    Raises:
        ImageFileError: `source` cannot be read, `target` exists and `overwrite` is False, or cannot be written.
    """
    _check_targets([Job(Path(source), Path(target))], overwrite)
    picture = read_image(source)
    result = replace(picture, **_planes(up, picture))
    write_image(target, result)
    return result


def upscale_paths(
    up: Upscaler,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    on_file: Callable[[Upscaled], None] | None = None,
) -> list[Upscaled]:
    """Upscale files and folders (with all they contain) into `out`, see `plan`.

    What can be known beforehand is checked beforehand, for all files. After that one bad picture doesn't stop the rest:
    its outcome has the reason.

    Raises:
        EngineError: a missing input, a folder without pictures, two results of one name, results that exist while
            `overwrite` is False; and where there is only one picture, what is wrong with it.
    """
    jobs = _checked_plan(inputs, out, up.scale, overwrite)
    return _upscale_jobs(jobs, lambda _: up, on_file)


def upscale_by_default(
    make: Callable[[str], Upscaler],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    scale: int = SCALE,
    overwrite: bool = False,
    on_choice: Callable[[str], None] | None = None,
    on_file: Callable[[Upscaled], None] | None = None,
) -> list[Upscaled]:
    """As `upscale_paths`, each picture with the model that comes with the package for its kind of file.

    Args:
        make: gives the Upscaler of a model name; called once for each model that some picture needs, before the work.
        on_choice: called with one line for each model: for which pictures, and why.

    Raises:
        EngineError: as `upscale_paths`; no model of this scale comes along; and what `make` raises.
    """
    default_model(scale)  # what is wrong with the scale is said first
    jobs = _checked_plan(inputs, out, scale, overwrite)
    choice = choose([job.source for job in jobs], scale)
    if on_choice is not None:
        for reason in choice.reasons:
            on_choice(reason)
    upscalers = {name: make(name) for name in dict.fromkeys(choice.models.values())}
    return _upscale_jobs(jobs, lambda source: upscalers[choice.models[source]], on_file)


def _upscale_jobs(
    jobs: Sequence[Job], up_for: Callable[[Path], Upscaler], on_file: Callable[[Upscaled], None] | None
) -> list[Upscaled]:
    outcomes: list[Upscaled] = []
    for job in jobs:
        start = time.perf_counter()
        try:
            result = upscale_file(up_for(job.source), *job, overwrite=True)
            height, width = result.pixels.shape[:2]
            outcome = Upscaled(job, time.perf_counter() - start, size=(width, height))
        except EngineError as error:
            if len(jobs) == 1:
                raise
            outcome = Upscaled(job, time.perf_counter() - start, error=str(error))
        outcomes.append(outcome)
        if on_file is not None:
            on_file(outcome)
    return outcomes


def _checked_plan(inputs: Sequence[str | Path], out: str | Path, scale: int, overwrite: bool) -> list[Job]:
    jobs = plan(inputs, out, suffix=f"_x{scale}")
    _check_targets(jobs, overwrite)
    return jobs


def plan(inputs: Sequence[str | Path], out: str | Path, *, suffix: str) -> list[Job]:
    """Which file becomes which.

    `out` is a file for a single input file, and a folder when it is an existing folder, has no picture suffix, or there
    are several inputs or a folder among them. In it results are called `<name><suffix>.png`; the pictures of an input
    folder keep their place within it.

    Raises:
        EngineError: an input is missing, a folder has no pictures, or two inputs lead to one result.
    """
    out = Path(out)
    paths = [Path(path) for path in inputs]
    for path in paths:
        if not path.exists():
            raise ImageFileError(f"{path}: does not exist.")
    single = len(paths) == 1 and paths[0].is_file()
    if single and not out.is_dir() and out.suffix:
        return [Job(paths[0], out)]
    if out.is_file():
        raise ImageFileError(f"{out}: is a file: expected a folder for the results of several pictures.")
    jobs: dict[Path, Job] = {}
    for path in paths:
        for source, place in _pictures(path):
            target = out / place.parent / f"{place.stem}{suffix}.png"
            if target in jobs:
                raise EngineError(f"{jobs[target].source} and {source} would both become {target}: rename one of them.")
            jobs[target] = Job(source, target)
    return list(jobs.values())


def _pictures(path: Path) -> list[tuple[Path, Path]]:
    """The pictures at `path`, each with its place in the output folder."""
    if path.is_file():
        return [(path, Path(path.name))]
    return [(p, p.relative_to(path)) for p in list_pictures(path)]


def _check_targets(jobs: Sequence[Job], overwrite: bool) -> None:
    for source, target in jobs:
        output_format(target)
        if target.exists() and source.resolve() == target.resolve():
            raise ImageFileError(f"{target}: is the input itself: choose another output.")
        folder = next(parent for parent in target.parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ImageFileError(f"{target}: cannot be written: {folder} is no folder that you may write in.")
    existing = [str(job.target) for job in jobs if job.target.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise ImageFileError(f"{existing[0]}{more}: exists already: use --overwrite or another output.")


def _planes(up: Upscaler, picture: Image) -> dict[str, np.ndarray]:
    if picture.alpha is None:
        return {"pixels": up(picture.pixels)}
    both = up(np.concatenate((picture.pixels, picture.alpha[..., None]), axis=2))
    return {"pixels": both[..., :-1], "alpha": both[..., -1]}
