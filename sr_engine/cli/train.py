"""`sr-engine train`: train a network as a configuration says."""

import argparse
from pathlib import Path

HELP = "train a network as a configuration file says; continues the run if it was begun before"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="configuration, such as configs/x4.yml")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="replaces a value of it: training.optim_g.lr=5e-4"
    )
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|none|PATH",
        help="continue the run in the output folder if there is one (auto), start anew (none), or from a checkpoint",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the results; default runs/<name>")
    parser.add_argument("--dry-run", action="store_true", help="show the plan, sample pictures and memory, and stop")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="where to compute")


def run(args: argparse.Namespace) -> int:
    """Train; see `sr_engine.train.run`."""
    from sr_engine.cli.registrations import load_all
    from sr_engine.config.load import load_config
    from sr_engine.train import run as train

    load_all()
    config = load_config(args.config, args.overrides)
    train(config, output=args.output, resume=args.resume, dry_run=args.dry_run, device=args.device)
    return 0
