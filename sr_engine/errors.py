"""Errors whose message is meant for the user: one sentence that names the thing, what was expected and what to do.

The command line prints such a message without a traceback and exits with 2; every other exception is a defect.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EngineError(Exception):
    """Base of all errors caused by input, files or the machine rather than by a defect."""


class ConfigError(EngineError):
    """A configuration that cannot be used; the message has one line for each problem."""


class DataError(EngineError):
    """A folder, list or data set that cannot be trained on or evaluated."""


class ImageFileError(EngineError):
    """A picture that cannot be read or written."""


class ModelFileError(EngineError):
    """A model name or file that cannot be loaded or saved."""


class CompressError(EngineError):
    """A network that cannot be pruned as asked."""


class ExportError(EngineError):
    """A network that cannot be exported as asked, or an export that differs from it."""


class CheckpointError(EngineError):
    """A training checkpoint that cannot be written, read or continued."""


class TrainingError(EngineError):
    """A training run that cannot go on."""


class PeerError(TrainingError):
    """A process ended because of another one of its run, which has told the reason: the command line is silent."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` when `name` resembles one of `known`, else the empty string."""
    match = get_close_matches(name, list(known), n=1)
    return f" (did you mean '{match[0]}'?)" if match else ""
