"""The arguments that choose a model and how it runs, the same for every verb that runs one."""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sr_engine.infer.upscaler import Upscaler


def add_model_arguments(parser: argparse.ArgumentParser, *, model: str = "") -> None:
    """Declare them; imports nothing heavy.

    Args:
        model: what to add to the help of `--model`.
    """
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help=f"model file, run folder or name; another project's file; or bicubic, mks2021{model}",
    )
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
        "--tta",
        action="store_true",
        help="self-ensemble: the mean over all eight flips and turns, a little better and eight times as slow",
    )
    parser.add_argument(
        "--no-accelerate",
        dest="accelerate",
        action="store_false",
        help="run the attention layers of another project's network as they are, not swapped for equal fused ones",
    )


def make_upscaler(
    args: argparse.Namespace, model: str | None = None, *, scale: int | None = None, linear: bool = False
) -> "Upscaler":
    """The Upscaler that `add_model_arguments` describe.

    Args:
        model: in place of the one they name.
        scale, linear: as `Upscaler` takes them.

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
        scale=scale,
        device=args.device,
        tile=args.tile,
        precision=args.precision,
        attention_share=args.attention_share,
        sharpness=args.sharpness,
        accelerate=args.accelerate,
        tta=args.tta,
        linear=linear,
    )


def own_scale(args: argparse.Namespace) -> int | None:
    """What the model itself is to enlarge by when `--scale` or `--size` say how large results are; a network knows."""
    if args.model not in ("bicubic", "mks2021") or (args.scale is None and args.size is None):
        return None
    # Any other size than a multiple is one resample with the same kernel.
    return int(args.scale) if args.scale is not None and args.scale.is_integer() else 1


def _tile(text: str) -> int | str:
    if text in ("auto", "off"):
        return text
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"expected auto, off or a number of pixels, got '{text}'")
