"""`sr-engine convert`: translate an option file of another framework."""

import argparse
from pathlib import Path

HELP = "translate an option file of BasicSR, traiNNer-redux or neosr into a configuration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("options", type=Path, metavar="OPTIONS", help="option file (.yml or .toml)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.yml", help="the configuration to write; without it only the table"
    )
    parser.add_argument(
        "--from", dest="dialect", choices=("basicsr", "trainner", "neosr"), help="its language (recognised by its keys)"
    )
    parser.add_argument(
        "--nearest", action="store_true", help="also take what has no equal but something near, and say what differs"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")


def run(args: argparse.Namespace) -> int:
    """Print what becomes of every key and write the configuration; 0 = done, 1 = it cannot be translated."""
    import sys

    from sr_engine.atomic import atomic_write
    from sr_engine.convert.convert import convert_file
    from sr_engine.convert.page import summary, table, yaml_page
    from sr_engine.convert.translation import ConversionError
    from sr_engine.errors import ConfigError

    if args.output is not None and args.output.exists() and not args.overwrite:
        raise ConfigError(f"{args.output} exists already: give another -o, or --overwrite.")
    try:
        dialect, translation = convert_file(args.options, args.dialect, nearest=args.nearest)
    except ConversionError as error:
        print(f"sr-engine: error: {error}", file=sys.stderr)
        return 1
    rows = translation.table()
    print(f"{args.options}: {dialect}\n\n{table(rows)}\n\n{summary(rows)}")
    for note in translation.notes:
        print(note)
    if args.output is not None:
        text = yaml_page(translation, args.options.name)
        with atomic_write(args.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"{args.options} -> {args.output}")
    return 0
