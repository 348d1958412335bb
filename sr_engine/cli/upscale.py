"""`sr-engine upscale`: picture files and folders through a network."""

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from sr_engine.cli import upscale_many

if TYPE_CHECKING:
    from sr_engine.infer.files import Upscaled
    from sr_engine.infer.upscaler import Upscaler

HELP = "upscale pictures and folders of pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; imports nothing heavy."""
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="pictures, or folders of pictures")
    parser.add_argument(
        "-o", "--out", required=True, metavar="OUT", help="a file for one picture, else a folder for <name>_x4.png"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    upscale_many.add_arguments(parser)
    add_model_arguments(
        parser,
        model="; by default one that comes along: tiny-x4-photo for JPEGs and other lossy files, tiny-x4 for the rest",
        scale="; without --model the scale of the one to take (4)",
    )


def add_model_arguments(parser: argparse.ArgumentParser, *, model: str = "", scale: str = "") -> None:
    """The arguments that choose a model and how it runs, the same for every verb that runs one.

    Args:
        model, scale: what to add to the help of these two.
    """
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help=f"model file, run folder or name; another project's file; or bicubic, mks2021{model}",
    )
    parser.add_argument("--scale", type=int, metavar="N", help=f"needed for bicubic and mks2021 only{scale}")
    parser.add_argument(
        "--tile", type=_tile, default="auto", metavar="auto|N|off", help="largest tile in input pixels (auto)"
    )
    parser.add_argument(
        "--impl", choices=("auto", "triton", "torch", "reference"), default="auto", help="of the kernels (auto)"
    )
    # No choices: what else may be asked for is told why it is not offered.
    parser.add_argument("--precision", default="auto", metavar="auto|fp32|bf16|fp16", help="(auto)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="(auto)")
    parser.add_argument(
        "--attention-share",
        type=float,
        metavar="R",
        help="share of windows that get attention, the hardest ones, above 0 to 1; less is faster (as the model says)",
    )
    parser.add_argument(
        "--sharpness",
        type=float,
        default=1.0,
        metavar="S",
        help="of the model's upsampler, 0 to 2: below 1 softer, above 1 sharper than learned (1)",
    )
    parser.add_argument(
        "--no-accelerate",
        dest="accelerate",
        action="store_false",
        help="run the attention layers of another project's network as they are, not swapped for equal fused ones",
    )


def run(args: argparse.Namespace) -> int:
    """Upscale; 0 = all done, 1 = some pictures could not be, each listed with its reason."""
    if upscale_many.is_asked_for(args):
        return upscale_many.run(args, make_upscaler)

    from sr_engine.infer.default_model import SCALE
    from sr_engine.infer.files import upscale_by_default, upscale_paths

    if args.model is not None:
        up = make_upscaler(args)
        outcomes = upscale_paths(up, args.inputs, args.out, overwrite=args.overwrite, on_file=_print)
    else:
        outcomes = upscale_by_default(
            partial(make_upscaler, args),
            args.inputs,
            args.out,
            scale=SCALE if args.scale is None else args.scale,
            overwrite=args.overwrite,
            on_choice=partial(print, file=sys.stderr),
            on_file=_print,
        )
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        print(f"{len(failed)} of {len(outcomes)} pictures were not upscaled.", file=sys.stderr)
    return 1 if failed else 0


def make_upscaler(args: argparse.Namespace, model: str | None = None) -> "Upscaler":
    """The Upscaler that `add_model_arguments` describe.

    Args:
        model: in place of the one they name.

    Raises:
        EngineError: no model is named, or something asked for doesn't exist here.
    """
    from sr_engine.device import check_precision, pick_device
    from sr_engine.errors import EngineError
    from sr_engine.infer.classical import CLASSICAL
    from sr_engine.models.files import available_models
    from sr_kernels import dispatch

    model = args.model if model is None else model
    if model is None:
        names = ", ".join((*available_models(), *CLASSICAL))
        raise EngineError(f"no model given: pass --model with a file, a run folder or one of {names}.")
    check_precision(args.precision)
    device = pick_device(args.device)
    if args.impl != "auto":
        os.environ[dispatch.ENVIRONMENT_VARIABLE] = args.impl
        try:
            dispatch.explain(device)
        except dispatch.ImplUnavailableError as error:
            raise EngineError(f"--impl {args.impl}: {error}.") from error

    from sr_engine.infer.upscaler import Upscaler

    return Upscaler(
        model,
        scale=args.scale,
        device=args.device,
        tile=args.tile,
        precision=args.precision,
        attention_share=args.attention_share,
        sharpness=args.sharpness,
        accelerate=args.accelerate,
    )


def _print(outcome: "Upscaled") -> None:
    if outcome.error is not None:
        print(f"sr-engine: {outcome.error}", file=sys.stderr)
    elif outcome.size is not None:
        width, height = outcome.size
        print(f"{outcome.job.source} -> {outcome.job.target}  {width}x{height}  {outcome.seconds:.1f} s")


def _tile(text: str) -> int | str:
    if text in ("auto", "off"):
        return text
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"expected auto, off or a number of pixels, got '{text}'")
