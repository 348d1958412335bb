"""Google-style docstrings taken apart: the description, and the text for each argument."""

import inspect
import re
from collections.abc import Callable
from typing import Any

_SECTION = re.compile(r"^(Args|Arguments|Raises|Returns|Yields|Attributes|Example|Examples|Source):$", re.MULTILINE)
_ARGUMENT = re.compile(r"^    (\w+(?:, \w+)*): ", re.MULTILINE)


def description(target: Callable[..., Any]) -> str:
    """Everything before the first section."""
    return _SECTION.split(inspect.getdoc(target) or "", maxsplit=1)[0].strip()


def argument_texts(target: Callable[..., Any]) -> dict[str, str]:
    """Argument -> its text on one line, from the docstring of a function or of a class and its bases."""
    owners = reversed(inspect.getmro(target)) if inspect.isclass(target) else [target]
    texts: dict[str, str] = {}
    for owner in owners:
        texts |= _texts(inspect.cleandoc(owner.__doc__ or ""))
    return texts


def _texts(doc: str) -> dict[str, str]:
    parts = _SECTION.split(doc)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    pieces = _ARGUMENT.split(sections.get("Args", ""))
    return {
        name: " ".join(text.split())
        for names, text in zip(pieces[1::2], pieces[2::2], strict=True)
        for name in names.split(", ")
    }
