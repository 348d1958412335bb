"""Picture files and folders through an upscaler."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from sr_engine.atomic import remove_leftovers
from sr_engine.data.animation import ANIMATED, Frame, animation_info, frame_count, read_frames, write_animation
from sr_engine.data.images import Image, header_of, read_image, samples_of
from sr_engine.data.rows import left_out, row_writer
from sr_engine.errors import EngineError, ImageFileError
from sr_engine.infer.default_model import SCALE
from sr_engine.infer.jobs import Job, Naming, check_targets, find, is_single, plan
from sr_engine.infer.model_choice import Models, OneModel
from sr_engine.infer.request import Request, check_room
from sr_engine.infer.streams import STANDARD, as_files
from sr_engine.infer.upscaler import Upscaler

Existing = Literal["error", "skip", "overwrite"]


class Upscaled(NamedTuple):
    """One picture's outcome; `target` was written if it is neither skipped nor has an error.

    size: (width, height) of the result. error: one sentence. notes: what reading or writing changed, a sentence each.
    """

    job: Job
    seconds: float
    size: tuple[int, int] | None = None
    error: str | None = None
    skipped: bool = False
    notes: tuple[str, ...] = ()


class Listener:
    """Hears how far the work is; this one says nothing."""

    def planned(self, jobs: Sequence[Job]) -> None:
        """Before the first picture."""

    def started(self, job: Job) -> None:
        """Before each picture that is not skipped."""

    def tile(self, done: int, total: int) -> None:
        """After each tile of it."""

    def finished(self, outcome: Upscaled) -> None:
        """After each picture, skipped ones too."""


def upscale_paths(
    models: Upscaler | Models,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    request: Request | None = None,
    naming: Naming | None = None,
    existing: Existing | None = None,
    listener: Listener | None = None,
) -> list[Upscaled]:
    """Upscale files, folders (with all they contain) and glob patterns into `out`; see `jobs.find` and `jobs.plan`.

    What can be known beforehand is checked beforehand, for all files. After that one bad picture doesn't stop the rest:
    its outcome has the reason. Every result is written whole or not at all, so a run that was stopped and is started
    again does what is missing.

    Args:
        models: an Upscaler, or what gives one for each picture (`OneModel`, `DefaultModels`).
        naming: of results in a folder; None = photo_x2.png, with the scale asked for, else the Upscaler's own, else 4.
        out: a file for one picture, a folder, or "-" for standard output; "-" among the inputs is standard input.
        existing: what to do where a result exists: refuse to begin, leave it, or replace it; None = refuse for a single
            picture and leave it for several.

    Raises:
        EngineError: a missing input, a folder without pictures, two results of one name; and where there is only one
            picture, what is wrong with it.
    """
    request, listener = request or Request(), listener or Listener()
    if isinstance(models, Upscaler):
        up = models
        models = OneModel(lambda: up, up.name)
        naming = naming or request.naming(up.scale)
    form = naming.form if naming is not None and naming.form not in (None, "same") else "png"
    wanted = str(out)
    with as_files(inputs, out, form) as (inputs, out):
        single = is_single(inputs)
        if wanted == STANDARD and not single:
            raise EngineError("several pictures cannot go to standard output: name a folder with -o.")
        found = find(inputs, out)
        models.prepare([picture.source for picture in found])
        naming = naming or request.naming(SCALE)
        jobs = plan(found, out, naming, single=single, model=models.name)
        check_targets(jobs)
        for job in jobs:
            request.encoding(job.target)
        existing = existing or ("error" if single else "skip")
        if existing == "error":
            _refuse_existing(jobs)
        models.load()
        remove_leftovers({job.target.parent for job in jobs}, others=False)
        return upscale_jobs(jobs, models, request=request, skip=existing == "skip", listener=listener)


def upscale_jobs(
    jobs: Sequence[Job], models: Models, *, request: Request, skip: bool, listener: Listener
) -> list[Upscaled]:
    """Do jobs that are checked; errors of a single one are raised, else they are in its outcome."""
    outcomes: list[Upscaled] = []
    listener.planned(jobs)
    for job in jobs:
        if skip and job.target.exists():
            outcome = Upscaled(job, 0.0, skipped=True)
        else:
            listener.started(job)
            outcome = upscale_job(models, job, request, listener.tile, raising=len(jobs) == 1)
        outcomes.append(outcome)
        listener.finished(outcome)
    return outcomes


def upscale_job(
    models: Models, job: Job, request: Request, on_tile: Callable[[int, int], None] | None = None, *, raising: bool
) -> Upscaled:
    """One picture; with `raising` False whatever goes wrong with it is in the outcome."""
    start = time.perf_counter()
    try:
        return upscale_file(models.upscaler(job.source), *job, request=request, overwrite=True, on_tile=on_tile)
    except EngineError as error:
        if raising:
            raise
        reason = str(error)
    except Exception as error:  # a defect must not cost the rest of a folder either
        if raising:
            raise
        reason = f"{job.source}: a defect of the program ({type(error).__name__}: {error}); --debug with it alone."
    return Upscaled(job, time.perf_counter() - start, error=reason)


def upscale_file(
    up: Upscaler,
    source: str | Path,
    target: str | Path,
    *,
    request: Request | None = None,
    overwrite: bool = False,
    on_tile: Callable[[int, int], None] | None = None,
) -> Upscaled:
    """Upscale one file into another.

    Bit depth, grey, alpha, colour profile, EXIF, XMP, IPTC and resolution are kept where the target's format can hold
    them, orientation is applied once. Rows are written as they are finished; of an animation every frame is upscaled.

    Args:
        on_tile: called with how many tiles are done, and of how many.

    Raises:
        ImageFileError: `source` cannot be read, `target` exists and `overwrite` is False, or cannot be written.
        EngineError: as `Upscaler`.
    """
    start = time.perf_counter()
    job, request = Job(Path(source), Path(target)), request or Request()
    check_targets([job])
    if not overwrite:
        _refuse_existing([job])
    if frame_count(job.source) > 1:
        size, notes = _animation(up, job, request, on_tile)
    else:
        size, notes = _picture(up, job, request, on_tile)
    return Upscaled(job, time.perf_counter() - start, size=size, notes=notes)


def _picture(
    up: Upscaler,
    job: Job,
    request: Request,
    on_tile: Callable[[int, int], None] | None,
) -> tuple[tuple[int, int], tuple[str, ...]]:
    picture = request.kept(read_image(job.source))
    up, size, notes = _fitting(up, picture, request)
    encoding = request.encoding(job.target)
    header = header_of(picture, *size)
    check_room(job.target, header, encoding)
    with row_writer(job.target, header, encoding) as write:
        for rows in up.rows(samples_of(picture), size=size, on_tile=on_tile):
            write(rows)
    return (size[1], size[0]), picture.notes + notes + left_out(header, encoding.form)


def _animation(
    up: Upscaler,
    job: Job,
    request: Request,
    on_tile: Callable[[int, int], None] | None,
) -> tuple[tuple[int, int], tuple[str, ...]]:
    encoding = request.encoding(job.target)
    info = animation_info(job.source)
    if encoding.form not in ANIMATED:
        raise ImageFileError(
            f"{job.source}: is an animation of {info.frames} frames, which {encoding.form} cannot hold: write it as "
            "GIF, WebP or PNG (--format webp)."
        )
    size: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()

    def frames() -> Iterator[Frame]:
        nonlocal size, notes
        for index, frame in enumerate(read_frames(job.source)):
            picture = request.kept(frame.image)
            fitting, size, notes = _fitting(up, picture, request)
            notes = picture.notes + notes
            header = header_of(picture, *size)
            if index == 0:
                check_room(job.target, header, encoding)
            both = fitting(samples_of(picture), size=size)
            colour, alpha = (both, None) if picture.alpha is None else (both[..., :-1], both[..., -1])
            yield Frame(replace(picture, pixels=colour, alpha=alpha, dpi=header.dpi), frame.duration_ms)
            if on_tile is not None:
                on_tile(index + 1, info.frames)

    write_animation(
        job.target, frames(), encoding.form, loop=info.loop, quality=request.quality, lossless=request.lossless
    )
    return (size[1], size[0]), notes


def _fitting(up: Upscaler, picture: Image, request: Request) -> tuple[Upscaler, tuple[int, int], tuple[str, ...]]:
    """The upscaler for the picture, its result's height and width, and what is to be said of it."""
    height, width = picture.pixels.shape[:2]
    size = request.size(height, width) or (height * up.scale, width * up.scale)
    if up.scale == 1 or size[0] > height or size[1] > width:
        return up, size, ()
    plain = Upscaler("mks2021", scale=1, device=str(up.device), tile=up.passes.tile, linear=up.linear)
    return plain, size, ("It was not enlarged, so Magic Kernel Sharp alone made the result.",)


def _refuse_existing(jobs: Sequence[Job]) -> None:
    existing = [str(job.target) for job in jobs if job.target.exists()]
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise ImageFileError(
            f"{existing[0]}{more}: exists already: use --overwrite or --skip-existing, or another output."
        )
