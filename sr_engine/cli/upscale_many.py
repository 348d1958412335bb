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

from sr_engine.cli.model_arguments import make_upscaler
from sr_engine.errors import EngineError

if TYPE_CHECKING:
    from sr_engine.infer.attempt import Made, Rules
    from sr_engine.infer.manifest import Manifest
    from sr_engine.infer.records import Record, Summary
    from sr_engine.infer.upscaler import Upscaler

_PROGRESS = 10.0  # seconds between two lines of it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments for pictures named in a file."""
    many = parser.add_argument_group("many pictures, also under torchrun (docs/scale.md)")
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
        if args.workers is not None and args.ray is None:
            raise EngineError("--workers goes with --ray; without it torchrun's --nproc-per-node tells how many.")
        return True
    for name in ("results", "ray", "workers"):
        if getattr(args, name) is not None:
            raise EngineError(f"--{name} goes with --manifest FILE, which names the pictures.")
    if not args.inputs:
        raise EngineError("no pictures given: expected files or folders, or --manifest FILE.")
    return False


def run(args: argparse.Namespace) -> int:
    """Upscale the pictures of the manifest; 0 = all done, or under torchrun all recorded, 1 = some failed."""
    from sr_engine.atomic import check_target
    from sr_engine.infer.manifest import open_manifest
    from sr_engine.infer.records import check_results
    from sr_engine.infer.shards import ending_cleanly, shard_from, upscale_share

    out = Path(args.out)
    results = check_target(out / "results.jsonl" if args.results is None else args.results, (".jsonl",))
    check_results(results)
    if args.ray is not None:
        return _on_ray(args, out, results)
    shard = shard_from()
    work = PictureWork(argparse.Namespace(**{**vars(args), "device": shard.device(args.device)}))
    manifest = open_manifest(args.manifest, out, work.name_of)
    report = _Report(manifest, f"rank {shard.rank}: " if shard.size > 1 else "")
    with ending_cleanly():
        summary = upscale_share(manifest, results, work, work.rules(args.overwrite), shard, report)
    _print(summary, results)
    return 1 if summary.failed and shard.size == 1 else 0


def _on_ray(args: argparse.Namespace, out: Path, results: Path) -> int:
    from sr_engine.infer.cluster import check_ray, upscale_on_ray
    from sr_engine.infer.manifest import open_manifest

    check_ray()
    if args.model is not None and Path(args.model).exists():
        args = argparse.Namespace(**{**vars(args), "model": str(Path(args.model).resolve())})
    # Made here only to find out what is wrong with the arguments, before others are; the GPUs are elsewhere.
    here = {"device": "cpu", "precision": "auto", "impl": "auto"}
    work = PictureWork(argparse.Namespace(**{**vars(args), **here}))
    manifest = open_manifest(Path(args.manifest).absolute(), out.absolute(), work.name_of)
    summary = upscale_on_ray(
        manifest,
        results.absolute(),
        partial(PictureWork, args),
        work.rules(args.overwrite),
        _Report(manifest, ""),
        address=None if args.ray == "local" else args.ray,
        workers=args.workers,
        gpus=args.device != "cpu",
    )
    _print(summary, results)
    return 1 if summary.failed else 0


def _print(summary: "Summary", results: Path) -> None:
    print(f"{summary.done} done, {summary.failed} failed, {summary.skipped} skipped of {summary.count}: {results}")


def _workers(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number of workers from 1 on, got '{text}'")


class PictureWork:
    """Upscales a file into another, with the model that was named or the one for its kind of file."""

    def __init__(self, args: argparse.Namespace) -> None:
        from sr_engine.infer.default_model import SCALE, default_model
        from sr_engine.infer.request import Request

        self._named = args.model is not None
        self._request = Request(args.scale, args.size, args.quality, args.lossless, metadata=not args.strip)
        if args.size is not None or (args.scale is not None and not args.scale.is_integer()):
            raise EngineError("with --manifest the scale is a whole number; no --size.")
        own = None if args.scale is None else int(args.scale)
        names = [None]
        if not self._named:
            self._own = own or SCALE
            names = [default_model(self._own, lossy=lossy) for lossy in (False, True)]
        # All beforehand: an error in making one is not an error of the picture that first needs it.
        self._upscalers = {
            name: make_upscaler(args, name, scale=own, linear=args.linear) for name in dict.fromkeys(names)
        }

    def __call__(self, source: Path, target: Path) -> "Made":
        """Upscale one picture; raises EngineError."""
        from sr_engine.data.lossy import lossy_format
        from sr_engine.infer.attempt import Made
        from sr_engine.infer.default_model import default_model
        from sr_engine.infer.files import upscale_file

        name = None if self._named else default_model(self._own, lossy=lossy_format(source) is not None)
        up = self._upscalers[name]
        size = upscale_file(up, source, target, request=self._request, overwrite=True).size
        assert size is not None, "a written picture has one"
        return Made(*size, up.name)

    def name_of(self, place: str) -> str:
        """The path of a result from the picture's place."""
        from sr_engine.infer.manifest import plain_name

        return plain_name(f"_x{self._any.scale}")(place)

    def rules(self, overwrite: bool) -> "Rules":
        """What counts as done by these models."""
        from sr_engine.infer.attempt import Rules

        return Rules(frozenset(up.name for up in self._upscalers.values()), self._any.scale, overwrite)

    @property
    def _any(self) -> "Upscaler":
        return next(iter(self._upscalers.values()))


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
