"""Google-style docstrings taken apart: the description, and the text for each argument."""

import inspect
import re
from collections.abc import Callable
from typing import Any

_SECTION = re.compile(r"(Args|Raises|Returns|Yields|Attributes|Examples?):")
_ARGUMENT = re.compile(r"^    (\w+(?:, \w+)*): ", re.MULTILINE)


def description(target: Callable[..., Any]) -> str:
    """The text outside the sections: paragraphs before the first one, and those that follow one without indentation."""
    lines = (inspect.getdoc(target) or "").splitlines()
    kept: list[str] = []
    in_section = False
    for line in lines:
        if _SECTION.fullmatch(line):
            in_section = True
        elif line and not line.startswith(" "):
            in_section = False
        if not in_section:
            kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def argument_texts(target: Callable[..., Any]) -> dict[str, str]:
    """Argument -> its text on one line, from the docstring of a function or of a class and its bases."""
    owners = reversed(inspect.getmro(target)) if inspect.isclass(target) else [target]
    texts: dict[str, str] = {}
    for owner in owners:
        texts |= _texts(inspect.cleandoc(owner.__doc__ or ""))
    return texts


def _texts(doc: str) -> dict[str, str]:
    _, _, after = f"\n{doc}".partition("\nArgs:\n")
    body = re.split(r"^\S", after, maxsplit=1, flags=re.MULTILINE)[0]
    pieces = _ARGUMENT.split(body)
    return {
        name: " ".join(text.split())
        for names, text in zip(pieces[1::2], pieces[2::2], strict=True)
        for name in names.split(", ")
    }
