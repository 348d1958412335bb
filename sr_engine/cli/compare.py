"""`sr-engine compare`: a page with a divider over two pictures of one scene."""

import argparse
from pathlib import Path

HELP = "put two pictures on one page, with a divider to drag over them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; imports nothing heavy."""
    parser.add_argument("left", type=Path, metavar="A", help="the picture on the left")
    parser.add_argument(
        "right", type=Path, metavar="B", help="the picture on the right; the smaller of the two is enlarged"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="PAGE.html", help="the page to write")
    parser.add_argument("--labels", nargs=2, metavar="TEXT", help="what the two are called (the names of the files)")
    parser.add_argument(
        "--format",
        choices=("png", "webp", "jpeg"),
        help="of the pictures in the page; webp is lossless, jpeg is not (webp or png, whichever is smaller)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a page that exists")


def run(args: argparse.Namespace) -> int:
    """Write the page, and print what it says of the two; 0 = done."""
    from sr_engine.infer.compare import compare_files, scores_line

    comparison = compare_files(
        args.left, args.right, args.out, labels=args.labels, form=args.format, overwrite=args.overwrite
    )
    for line in (comparison.enlarged, scores_line(comparison)):
        if line is not None:
            print(line)
    width, height = comparison.size
    print(f"{args.left}, {args.right} -> {args.out}  {width}x{height}")
    return 0
