"""`sr-engine upscale --manifest`: millions of pictures, by one process, by those of torchrun, or by a Ray cluster.

Exit code: that of every verb, but under torchrun 0 where pictures failed: torchrun takes 1 for a process that broke,
kills the others and starts all anew, which no bad picture is a reason for. The result manifest tells what failed.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sr_engine.cli.model_arguments import make_upscaler, own_scale
from sr_engine.errors import EngineError

if TYPE_CHECKING:
    from sr_engine.infer.attempt import Made, Rules
    from sr_engine.infer.manifest import Manifest
    from sr_engine.infer.records import Record, Summary
    from sr_engine.infer.request import Request

_PROGRESS = 10.0  # seconds between two lines of it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments for pictures named in a file."""
    many = parser.add_argument_group("many pictures, also under torchrun or Ray (docs/scale.md)")
    many.add_argument(
        "--manifest",
        metavar="FILE",
        help="upscale what this file names, in place of INPUT: a path a line, CSV with source[,target], or JSONL",
    )
    many.add_argument(
        "--results",
        metavar="FILE.jsonl",
        help="what became of each picture (OUT/results.jsonl); started again, only what is missing in it is done",
    )
    many.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS", help="with Ray, on this machine or the cluster at ADDRESS"
    )
    many.add_argument("--workers", type=_workers, metavar="N", help="of Ray (one a GPU; without GPUs one a core)")


def is_asked_for(args: argparse.Namespace) -> bool:
    """Whether the arguments are for `run` of this module.

    Raises:
        EngineError: neither a manifest nor inputs, both, or what goes with a manifest only.
    """
    if args.manifest is not None:
        if args.inputs:
            raise EngineError(
                f"--manifest and {args.inputs[0]}: expected one of them; write the pictures into the file."
            )
        for word in ("name", "size", "compare", "skip_existing"):
            if getattr(args, word):
                raise EngineError(
                    f"--{word.replace('_', '-')} does not go with --manifest, whose lines may name targets."
                )
        if args.format == "same":
            raise EngineError("--format same does not go with --manifest: name a format, or targets in its lines.")
        if args.workers is not None and args.ray is None:
            raise EngineError("--workers goes with --ray; without it torchrun's --nproc-per-node tells how many.")
        return True
    for name in ("results", "ray", "workers"):
        if getattr(args, name) is not None:
            raise EngineError(f"--{name} goes with --manifest FILE, which names the pictures.")
    if not args.inputs:
        raise EngineError("no pictures given: expected files or folders, or --manifest FILE.")
    return False


def run(args: argparse.Namespace, request: "Request") -> int:
    """Upscale the pictures of the manifest; 0 = all done, or under torchrun all recorded, 1 = some failed."""
    from sr_engine.atomic import check_target
    from sr_engine.infer.records import check_results
    from sr_engine.infer.shards import ending_cleanly, shard_from, upscale_share

    out = Path(args.out)
    results = check_target(out / "results.jsonl" if args.results is None else args.results, (".jsonl",))
    check_results(results)
    shard = shard_from()
    if args.ray is not None:
        if shard.size > 1:
            raise EngineError("--ray does not go with torchrun: Ray starts its workers itself.")
        return _on_ray(args, request, out, results)
    work = PictureWork(argparse.Namespace(**{**vars(args), "device": shard.device(args.device)}), request)
    manifest = _manifest(args, request, work.scale, out)
    report = _Report(manifest, f"rank {shard.rank}: " if shard.size > 1 else "")
    with ending_cleanly():
        summary = upscale_share(manifest, results, work, work.rules(args.overwrite), shard, report)
    _print(summary, results)
    return 1 if summary.failed and shard.size == 1 else 0


def _on_ray(args: argparse.Namespace, request: "Request", out: Path, results: Path) -> int:
    from sr_engine.infer.cluster import check_ray, upscale_on_ray

    check_ray()
    args = argparse.Namespace(**{**vars(args), "manifest": Path(args.manifest).absolute()})
    if args.model is not None and Path(args.model).exists():
        args.model = str(Path(args.model).resolve())
    # Made here only to find out what is wrong with the arguments, before others are; the GPUs are elsewhere.
    here = {"device": "cpu", "precision": "auto", "impl": "auto"}
    work = PictureWork(argparse.Namespace(**{**vars(args), **here}), request)
    manifest = _manifest(args, request, work.scale, out.absolute())
    summary = upscale_on_ray(
        manifest,
        results.absolute(),
        partial(PictureWork, args, request),
        work.rules(args.overwrite),
        _Report(manifest, ""),
        address=None if args.ray == "local" else args.ray,
        workers=args.workers,
        gpus=args.device != "cpu",
    )
    _print(summary, results)
    return 1 if summary.failed else 0


def _manifest(args: argparse.Namespace, request: "Request", scale: int | float, out: Path) -> "Manifest":
    from sr_engine.infer.manifest import open_manifest, plain_name

    ending = f".{args.format or 'png'}"
    request.encoding(Path(f"any{ending}"))  # whether it can be written as asked
    name = plain_name(f"_x{scale:g}" if args.suffix is None else args.suffix, ending)
    return open_manifest(args.manifest, out, name)


def _print(summary: "Summary", results: Path) -> None:
    print(f"{summary.done} done, {summary.failed} failed, {summary.skipped} skipped of {summary.count}: {results}")


def _workers(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number of workers from 1 on, got '{text}'")


class PictureWork:
    """Upscales a file into another, with the model that was named or the one for its kind of file."""

    def __init__(self, args: argparse.Namespace, request: "Request") -> None:
        from sr_engine.infer.default_model import default_model, scale_for

        self._request = request
        self._names: dict[bool, str | None] = {True: None, False: None}  # by whether a file is compressed with loss
        if args.model is None:
            own = scale_for(request.scale)
            self._names = {lossy: default_model(own, lossy=lossy) for lossy in (True, False)}
        # All beforehand: an error in making one is not an error of the picture that first needs it.
        self._upscalers = {
            name: make_upscaler(args, name, scale=own_scale(args), linear=args.linear)
            for name in dict.fromkeys(self._names.values())
        }
        self.scale = request.scale or next(iter(self._upscalers.values())).scale

    def __call__(self, source: Path, target: Path) -> "Made":
        """Upscale one picture; raises EngineError."""
        from sr_engine.data.lossy import lossy_format
        from sr_engine.infer.attempt import Made
        from sr_engine.infer.files import upscale_file

        up = self._upscalers[self._names[lossy_format(source) is not None]]
        size = upscale_file(up, source, target, request=self._request, overwrite=True).size
        assert size is not None, "a written picture has one"
        return Made(*size, up.name)

    def rules(self, overwrite: bool) -> "Rules":
        """What counts as done by these models."""
        from sr_engine.infer.attempt import Rules

        return Rules(frozenset(up.name for up in self._upscalers.values()), self.scale, overwrite)


class _Report:
    """Failures as they come, and now and then how far a process is."""

    def __init__(self, manifest: "Manifest", who: str) -> None:
        self._count, self._who = manifest.count, who
        self._seen = self._failed = 0
        self._start = self._last = time.monotonic()

    def __call__(self, record: "Record") -> None:
        self._seen += 1
        if record.error is not None:
            self._failed += 1
            print(f"sr-engine: {self._who}{record.error}", file=sys.stderr)
        now = time.monotonic()
        if now - self._last >= _PROGRESS:
            self._last = now
            rate = self._seen / (now - self._start)
            said = f"{self._seen} of {self._count} pictures, {self._failed} failed, {rate:.2g} a second"
            print(f"sr-engine: {self._who}{said}", file=sys.stderr, flush=True)
