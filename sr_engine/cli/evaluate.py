"""`sr-engine eval`: PSNR-Y and SSIM-Y of a model on a folder of high-resolution pictures."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sr_engine.cli.upscale import add_model_arguments, make_upscaler

if TYPE_CHECKING:
    from sr_engine.infer.evaluate import ImageScore

HELP = "score a model on a folder of high-resolution pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; imports nothing heavy."""
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of high-resolution pictures")
    parser.add_argument("--json", metavar="FILE", help="also write the scores to this file")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Score, print a table, write the JSON; 0 = done."""
    from sr_engine.atomic import atomic_write
    from sr_engine.errors import EngineError
    from sr_engine.infer.evaluate import evaluate, folder_pairs

    up = make_upscaler(args)
    pairs = folder_pairs(args.data, scale=up.scale)
    print(f"{up.name} x{up.scale} on {args.data}, {len(pairs)} pictures")
    print("PSNR-Y  SSIM-Y  seconds  picture")

    def row(name: str, psnr: float, ssim: float, seconds: float) -> None:
        print(f"{psnr:6.2f}  {ssim:6.4f}  {seconds:7.2f}  {name}", flush=True)

    def on_image(score: "ImageScore") -> None:
        row(score.name, score.psnr_y, score.ssim_y, score.seconds)

    report = evaluate(up, pairs, scale=up.scale, model=up.name, on_image=on_image)
    row("mean", *report.mean(), sum(image.seconds for image in report.images) / len(report.images))
    if args.json is not None:
        try:
            with atomic_write(args.json) as temporary:
                Path(temporary).write_text(report.to_json(), encoding="utf-8")
        except OSError as error:
            raise EngineError(f"{args.json}: the scores cannot be written: {error.strerror or error}.") from error
    return 0
