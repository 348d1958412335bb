"""`sr-engine upscale`: picture files and folders through a network."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sr_engine.cli import upscale_many
from sr_engine.cli.model_arguments import add_model_arguments, make_upscaler, own_scale

if TYPE_CHECKING:
    from sr_engine.cli.upscale_progress import Watch
    from sr_engine.infer.files import Existing
    from sr_engine.infer.jobs import Naming
    from sr_engine.infer.model_choice import Models
    from sr_engine.infer.request import Request

HELP = "upscale pictures and folders of pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; imports nothing heavy."""
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="pictures, folders (with all they contain), 'glob*.png'; - is stdin"
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="OUT", help="a file for one picture, else a folder; - is stdout"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--scale",
        type=_number,
        metavar="N",
        help="any number, such as 2.5: the network's own scale, then Magic Kernel Sharp (the network's own)",
    )
    size.add_argument(
        "--size",
        metavar="WxH",
        help="of the result: 3840x2160 = the largest that fits, 3840x or x2160 = one side, 3840x2160! = exactly",
    )
    names = parser.add_argument_group("results")
    pattern = names.add_mutually_exclusive_group()
    pattern.add_argument(
        "--name", metavar="PATTERN", help="in a folder, without ending: of {name}, {scale}, {model} ({name}_x{scale})"
    )
    pattern.add_argument("--suffix", metavar="S", help="short for --name '{name}S'")
    names.add_argument(
        "--format",
        type=_ending,
        metavar="F",
        help="png, jpg, webp, tif, avif, gif, bmp, or same as the picture (png; of animated GIF and WebP their own)",
    )
    names.add_argument("--quality", type=int, default=95, metavar="Q", help="of JPEG, WebP and AVIF, 1 to 100 (95)")
    names.add_argument("--lossless", action="store_true", help="write WebP without loss (PNG and TIFF always are)")
    names.add_argument("--strip", action="store_true", help="leave out EXIF, XMP and IPTC (place, camera, captions)")
    existing = names.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace results that exist")
    existing.add_argument(
        "--skip-existing", action="store_true", help="leave them, without an error for a single one (for folders usual)"
    )
    names.add_argument("--compare", metavar="FILE.png", help="also a sheet: details of input, bicubic, mks2021, result")
    parser.add_argument(
        "--linear",
        action="store_true",
        help="resample in linear light: the size after the network, and mks2021, bicubic",
    )
    upscale_many.add_arguments(parser)
    add_model_arguments(
        parser,
        model="; by default one that comes along: tiny-x4-photo for JPEGs and other lossy files, tiny-x4 for the rest",
    )


def run(args: argparse.Namespace) -> int:
    """Upscale; 0 = all done, 1 = some pictures could not be, each listed with its reason."""
    from sr_engine.atomic import check_target
    from sr_engine.cli.upscale_progress import Watch
    from sr_engine.errors import EngineError
    from sr_engine.infer.files import upscale_paths
    from sr_engine.infer.request import Request

    many = upscale_many.is_asked_for(args)
    request = Request(args.scale, args.size, args.quality, args.lossless, metadata=not args.strip)
    if many:
        return upscale_many.run(args, request)
    if args.compare is not None:
        check_target(args.compare, (".png",))
        if "-" in (*args.inputs, args.out):
            raise EngineError("--compare reads pictures again, which standard input and output (-) do not allow.")
    models = _models(args, request)
    with Watch(sys.stderr if args.out == "-" else sys.stdout) as watch:
        upscale_paths(
            models,
            args.inputs,
            args.out,
            request=request,
            naming=_naming(args, request, models),
            existing=_existing(args),
            listener=watch,
        )
    status = watch.summary()
    if args.compare is not None:
        _preview(watch, models, args.compare)
    return status


def _models(args: argparse.Namespace, request: "Request") -> "Models":
    from sr_engine.infer.model_choice import DefaultModels, OneModel

    if args.model is None:
        say = partial(print, file=sys.stderr)
        return DefaultModels(lambda name: make_upscaler(args, name, linear=args.linear), request.factor, say)
    return OneModel(partial(make_upscaler, args, scale=own_scale(args), linear=args.linear), args.model)


def _naming(args: argparse.Namespace, request: "Request", models: "Models") -> "Naming":
    from sr_engine.infer.default_model import SCALE

    own = SCALE if args.model is None else models.upscaler(Path()).scale
    pattern = args.name
    if args.suffix is not None:
        pattern = "{name}" + args.suffix.replace("{", "{{").replace("}", "}}")
    return request.naming(own, pattern=pattern, form=args.format)


def _existing(args: argparse.Namespace) -> "Existing | None":
    if args.overwrite:
        return "overwrite"
    return "skip" if args.skip_existing else None


def _preview(watch: "Watch", models: "Models", path: str) -> None:
    from sr_engine.infer.preview import preview_sheet

    jobs = [outcome.job for outcome in watch.outcomes if outcome.error is None]
    count = preview_sheet([(job.source, job.target, models.name(job.source)) for job in jobs], path)
    print(
        f"{count} pictures compared in {path}" if count else f"no picture to compare, {path} is not written",
        file=sys.stderr,
    )


def _ending(text: str) -> str:
    return text.lower().removeprefix(".")


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1000:
        raise argparse.ArgumentTypeError(f"expected a number above 0 such as 2 or 2.5, got '{text}'")
    return value
