"""The photographs that weights were trained on: counts for the model file, and a page that names each of them.

They come as a list of crops in JSON, each with `src` (the file of the photograph within its collection), `source` (the
collection), `licence`, and where known `author` and `url`. A licence may end in a remark in brackets, in most lists the
author's name.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from sr_engine.errors import DataError

PAGE = "docs/training-pictures.md"

_SAME = {"CC0": "CC0-1.0", "Unsplash": "Unsplash licence (CC0 if older than 2017-06-08)"}
# Remarks in brackets that name no author.
_REMARKS = re.compile(r"^(repository|package|per |CC0 if|Unsplash)")
_INTRO = """# Photographs behind the weights

The models that come with sr-engine ([models.md](models.md)) learned from crops of these {count} photographs. No
photograph is part of a model file. The licence is given as the collection states it; the author as its licence remarks
or the name of the file say, and where they don't there is a dash. Made by `python -m bench.publish`.

| licence | photographs |
|---|---|
"""


class Photograph(NamedTuple):
    """file: within its collection. licence: as the collection states it. crops: how many were cut from it."""

    file: str
    collection: str
    licence: str
    author: str | None
    url: str | None
    crops: int


def read(path: Path) -> list[Photograph]:
    """All photographs of a list, sorted by collection and file.

    Raises:
        DataError: no such file, or not such a list.
    """
    try:
        crops = json.loads(path.read_text(encoding="utf-8"))
        first = {crop["src"]: crop for crop in reversed(crops)}
        counts = Counter(crop["src"] for crop in crops)
        found = [_photograph(crop, counts[file]) for file, crop in first.items()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a list of the training pictures") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a JSON list of crops with src, source and licence ({error!r})") from error
    if not found:
        raise DataError(f"{path}: the list is empty")
    return sorted(found, key=lambda one: (one.collection, one.file))


def facts(photographs: Sequence[Photograph]) -> dict[str, Any]:
    """What the model file says of its data: see `sr_engine.models.card`."""
    return {
        "pictures": len(photographs),
        "crops": sum(one.crops for one in photographs),
        "licences": licence_counts(photographs),
        "attribution": f"{PAGE} of the project names every photograph, its collection, its licence and, where the "
        "collection does, its author; no photograph is part of this file",
    }


def licence_counts(photographs: Sequence[Photograph]) -> dict[str, int]:
    """Photographs by licence, the most frequent first."""
    counts = Counter(_licence(one.licence) for one in photographs)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def page(photographs: Sequence[Photograph]) -> str:
    """The page that names them all."""
    lines = [_INTRO.format(count=len(photographs))]
    lines += [f"| {licence} | {count} |\n" for licence, count in licence_counts(photographs).items()]
    for collection, group in groupby(photographs, key=lambda one: one.collection):
        lines.append(f"\n## {collection}\n\n| file | licence | author |\n|---|---|---|\n")
        lines += [f"| {_linked(one)} | {one.licence} | {one.author or '-'} |\n" for one in group]
    return "".join(lines)


def _photograph(crop: dict[str, str], crops: int) -> Photograph:
    author = crop.get("author") or _author(crop["src"], crop["licence"])
    return Photograph(crop["src"], crop["source"], crop["licence"], author, crop.get("url"), crops)


def _author(file: str, licence: str) -> str | None:
    """From the remark behind the licence, or names as `sunset_by_Jane_Doe.jpg`, `jane-doe-0PueFmKKF28-unsplash.jpg`."""
    remark = re.search(r"\((.+?)( \S+\.\w+)?\)$", licence)  # some remarks go on with the name of the file
    if remark is not None and not _REMARKS.match(remark[1]):
        return remark[1]
    if (by := re.search(r"_by_(?!the_)(.+)\.\w+$", file)) is not None:
        return by[1].replace("_", " ")
    if (by := re.search(r"([a-z-]+)-([\w-]{11}|\d{6,7})-unsplash\.\w+$", file)) is not None:
        return by[1].replace("-", " ").title()
    return None


def _licence(text: str) -> str:
    """Without the remark, in one spelling: `CC-BY-SA 4.0 (Jane Doe)` is `CC-BY-SA-4.0`."""
    short = re.sub(r"\s*\(.*\)$", "", text)
    short = re.sub(r"^(CC-BY|CC-BY-SA|CC0) (\d)", r"\1-\2", short)
    return _SAME.get(short, short)


def _linked(one: Photograph) -> str:
    return one.file if one.url is None else f"[{one.file}]({one.url})"
