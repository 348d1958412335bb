"""`sr-engine analyze`: one picture that shows what the content-aware parts see in a photograph."""

import argparse
from pathlib import Path

HELP = "draw what the content-aware parts see in a picture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; imports nothing heavy."""
    parser.add_argument("input", type=Path, metavar="PICTURE", help="the picture to look at")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.png", help="the sheet to write")
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="also draw this model's gates, the windows it attends to and its steering"
    )
    parser.add_argument(
        "--attention-share", type=float, metavar="R", help="of the windows, in place of what the model's routing says"
    )
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="(auto)")


def run(args: argparse.Namespace) -> int:
    """Analyse, draw, print the shares of the regions and the notes; 0 = done."""
    from sr_engine.cli.registrations import load_all
    from sr_engine.infer.analysis_sheet import analyse_file
    from sr_engine.infer.regions import REGIONS

    load_all()
    analysis, (width, height) = analyse_file(
        args.input, args.out, model=args.model, share=args.attention_share, device=args.device
    )
    print("  ".join(f"{name} {share:.0%}" for name, share in zip(REGIONS, analysis.shares, strict=True)))
    for note in analysis.notes:
        print(note)
    print(f"{args.input} -> {args.out}  {width}x{height}")
    return 0
