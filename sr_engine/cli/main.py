"""`sr-engine VERB ...`: finds the verb's module, runs it, and turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 some of several things failed, 2 an error of the user or the machine, 3 a defect of the program
(with its traceback), 130 stopped with Ctrl+C, 141 the reader of the output went away.
A verb's module has HELP (one line), `add_arguments(parser)` and `run(args) -> int`; it imports torch only in `run`, so
that help is immediate.
"""

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType

from sr_engine.allocator import keep_freed_memory
from sr_engine.errors import EngineError, PeerError, did_you_mean

VERBS = {
    "train": "sr_engine.cli.train",
    "upscale": "sr_engine.cli.upscale",
    "eval": "sr_engine.cli.evaluate",
    "analyze": "sr_engine.cli.analyze",
    "compare": "sr_engine.cli.compare",
    "prune": "sr_engine.cli.prune",
    "accelerate": "sr_engine.cli.accelerate",
    "export": "sr_engine.cli.export",
    "convert": "sr_engine.cli.convert",
    "info": "sr_engine.cli.info",
    "schema": "sr_engine.cli.schema",
}
USER_ERROR = 2
DEFECT = 3
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: that of the process) and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] not in VERBS:
        return _without_verb(argv)
    verb = import_module(VERBS[argv[0]])
    args = _parser(argv[0], verb).parse_intermixed_args(argv[1:])
    _configure_logging(args.debug)
    keep_freed_memory()
    try:
        status = verb.run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be what went away
            print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing it would fail once more
        return BROKEN_PIPE
    except Exception as error:
        message = _user_message(error)
        if isinstance(error, PeerError) and not args.debug:
            return USER_ERROR
        if message is None or args.debug:
            traceback.print_exc()
        else:
            _report(message)
        return DEFECT if message is None else USER_ERROR


def _without_verb(argv: list[str]) -> int:
    if argv and argv[0] in ("-V", "--version"):
        return _print_version()
    if argv and argv[0] not in ("-h", "--help"):
        _report(f"unknown verb '{argv[0]}'{did_you_mean(argv[0], VERBS)}; known are: {', '.join(VERBS)}.")
        return USER_ERROR
    width = max(map(len, VERBS))
    print("usage: sr-engine VERB [arguments]\n\nTrain super-resolution networks and upscale pictures with them.\n")
    for name, module in VERBS.items():
        print(f"  {name:{width}}  {import_module(module).HELP}")
    print("\n`sr-engine VERB --help` tells the arguments of a verb; `sr-engine --version` the version.")
    return 0 if argv else USER_ERROR


def _print_version() -> int:
    from importlib import metadata

    try:
        print(f"sr-engine {metadata.version('sr-engine')}")
    except metadata.PackageNotFoundError:
        print("sr-engine, run from its source tree")
    return 0


def _parser(name: str, verb: ModuleType) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"sr-engine {name}", description=verb.HELP)
    verb.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error, and more of the log")
    return parser


def _configure_logging(debug: bool) -> None:
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    for package in ("sr_engine", "sr_kernels"):
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.INFO)


def _user_message(error: Exception) -> str | None:
    """What to tell the user, None for a defect of the program."""
    if isinstance(error, EngineError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}."
    dispatch = sys.modules.get("sr_kernels.dispatch")  # cannot have raised when it is not loaded
    if dispatch is not None and isinstance(error, dispatch.ImplUnavailableError):
        return str(error)
    return None


def _report(message: str) -> None:
    separator = "\n" if "\n" in message else " "
    print(f"sr-engine: error:{separator}{message}", file=sys.stderr)
