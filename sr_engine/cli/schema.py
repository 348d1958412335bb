"""`sr-engine schema`: what a configuration can hold, for editors and for people."""

import argparse
from pathlib import Path

HELP = "write the JSON schema of configuration files, with which editors complete and check them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument("--markdown", action="store_true", help="write the reference page for people instead")
    parser.add_argument(
        "--plugin", type=Path, action="append", default=[], metavar="FILE.py", help="also describe what it registers"
    )


def run(args: argparse.Namespace) -> int:
    """Write or print the schema."""
    import json

    from sr_engine.atomic import atomic_write
    from sr_engine.cli.registrations import load_all
    from sr_engine.config.editor import json_schema
    from sr_engine.config.plugins import import_plugin
    from sr_engine.config.reference import reference_page

    load_all()
    for plugin in args.plugin:
        import_plugin(plugin)
    text = reference_page() if args.markdown else json.dumps(json_schema(), indent=2) + "\n"
    if args.output is None:
        print(text, end="")
        return 0
    with atomic_write(args.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {args.output}")
    return 0
