"""`sr-engine eval`: PSNR-Y and SSIM-Y of a model on a folder of high-resolution pictures."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from sr_engine.cli.model_arguments import add_model_arguments, make_upscaler
from sr_engine.cli.report_file import write_report

if TYPE_CHECKING:
    import torch

    from sr_engine.infer.evaluate import ImageScore
    from sr_engine.infer.judge import Measure

Number = TypeVar("Number", int, float)

HELP = "score a model on a folder of high-resolution pictures"

# Measures beyond the protocol's by their name in the JSON file: title of the column, and how a value is written there.
COLUMNS = {"reduced_psnr": ("reduced", ".2f"), "colour_shift": ("shift", ".3f")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; imports nothing heavy."""
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of high-resolution pictures")
    parser.add_argument("--json", metavar="FILE", help="also write the scores to this file")
    parser.add_argument(
        "--noise", type=_sigma, default=0.0, metavar="S", help="spoil the reduced pictures: noise of deviation S of 255"
    )
    parser.add_argument(
        "--jpeg", type=_quality, metavar="Q", help="spoil the reduced pictures: JPEG of quality Q, after the noise"
    )
    parser.add_argument(
        "--consistency",
        action="store_true",
        help="also reduce the results again: their PSNR (RGB, dB) against the input, and the shift of the mean colour",
    )
    parser.add_argument(
        "--metric",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also judge the look by these of pyiqa, such as lpips dists (extra `metrics`)",
    )
    parser.add_argument("--scale", type=int, metavar="N", help="needed for bicubic and mks2021 only")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Score, print a table, write the JSON; 0 = done."""
    from sr_engine.infer.evaluate import evaluate, folder_pairs, spoiled

    up = make_upscaler(args, scale=args.scale)
    measures, notes = _measures(args, up.device)
    pairs = folder_pairs(args.data, scale=up.scale)
    defects = {"noise": args.noise, "jpeg": args.jpeg}
    named = [f", {name} {value:g}" for name, value in defects.items() if value]
    print(f"{up.name} x{up.scale} on {args.data}, {len(pairs)} pictures{''.join(named)}")
    columns = [COLUMNS.get(name, (name, ".4f")) for name in measures]
    print("  ".join(["PSNR-Y  SSIM-Y  seconds", *(f"{title:>7}" for title, _ in columns), "picture"]))

    def row(name: str, psnr: float, ssim: float, seconds: float, more: Mapping[str, float]) -> None:
        cells = [f"{value:>{max(7, len(t))}{form}}" for value, (t, form) in zip(more.values(), columns, strict=True)]
        print("  ".join([f"{psnr:6.2f}  {ssim:6.4f}  {seconds:7.2f}", *cells, name]), flush=True)

    def on_image(score: "ImageScore") -> None:
        row(score.name, score.psnr_y, score.ssim_y, score.seconds, score.more)

    report = evaluate(
        up,
        spoiled(pairs, **defects) if named else pairs,
        scale=up.scale,
        model=up.name,
        measures=measures,
        on_image=on_image,
    )
    row("mean", *report.mean(), sum(image.seconds for image in report.images) / len(report.images), report.mean_more())
    for note in notes:
        print(note)
    if args.json is not None:
        write_report(args.json, replace(report, defects=defects if named else None).to_json())
    return 0


def _measures(args: argparse.Namespace, device: "torch.device") -> tuple[dict[str, "Measure"], list[str]]:
    """The measures asked for beyond the protocol's, by name, and what there is to say of them."""
    from sr_engine.infer.judge import colour_shift, looks, reduced_psnr

    measures: dict[str, Measure] = {}
    notes = []
    if args.consistency:
        measures |= {"reduced_psnr": reduced_psnr, "colour_shift": colour_shift}
        notes.append(
            "reduced: PSNR in dB of the result reduced again against the input; shift: of the mean colour, of 255"
        )
    if args.metric:
        from sr_engine.metrics.perceptual import PerceptualMetric

        for name in args.metric:
            metric = PerceptualMetric(name, device)
            measures[name] = looks(metric)
            notes.append(f"{name}: {'lower' if metric.lower_better else 'higher'} is better")
    return measures, notes


def _sigma(text: str) -> float:
    return _number(text, float, 0, 255)


def _quality(text: str) -> int:
    return _number(text, int, 1, 100)


def _number(text: str, kind: type[Number], low: Number, high: Number) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}, got '{text}'")
    return value
