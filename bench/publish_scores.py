"""Scores for the card of a model: test sets by the protocol, clean and spoiled, beside those of other upsamplers."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sr_engine.errors import DataError
from sr_engine.infer.evaluate import evaluate, folder_pairs, spoiled
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.files import available_models

Defects = Mapping[str, int]  # arguments of `spoiled`


def measured(
    up: Upscaler, name: str, tests: Iterable[tuple[str, str]], spoils: Sequence[Defects]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Title and scores of each test set, as it is and spoiled in each way; see `sr_engine.models.card`.

    Beside them stand the PSNR-Y of the classical upsamplers and, for a model `NAME-photo` and the like, of `NAME`.

    Raises:
        EngineError: a folder cannot be used.
    """
    rivals = {title: Upscaler(title, scale=up.scale) for title in ("bicubic", "mks2021")}
    rivals |= {title: Upscaler(title, precision="fp32") for title in _simpler(name)}
    for title, folder in tests:
        pairs = folder_pairs(folder, scale=up.scale)
        for defects in ({}, *spoils):
            reports = {
                who: evaluate(one, spoiled(pairs, **defects) if defects else pairs, scale=up.scale)
                for who, one in {"": up, **rivals}.items()
            }
            own = reports.pop("")
            others = {who: round(report.mean().psnr_y, 4) for who, report in reports.items()}
            yield f"{title}{_named(defects)}", {**_entry(own.mean()._asdict(), len(own.images)), "rivals": others}


def taken_over(path: Path, scale: int) -> dict[str, Any]:
    """Scores that `sr-engine eval --json` has written, further measures included.

    Raises:
        DataError: it is no such file, or one of another scale.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entry, found = _entry(content["mean"], len(content["images"])), content["scale"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected what `sr-engine eval --json` writes ({error!r})") from error
    if found != scale:
        raise DataError(f"{path}: is of a model for scale {found}, expected {scale}")
    return entry


def _entry(means: Mapping[str, float], pictures: int) -> dict[str, Any]:
    first = {"psnr_y": round(means["psnr_y"], 4), "ssim_y": round(means["ssim_y"], 5), "pictures": pictures}
    return first | {name: round(value, 4) for name, value in means.items() if name not in first}


def _simpler(name: str) -> list[str]:
    """The models that come along whose name this one extends: those it is an alternative to."""
    return [other for other in available_models() if name.startswith(f"{other}-")]


def _named(defects: Defects) -> str:
    """As `sr-engine eval` writes them."""
    return "".join(f", {name} {value}" for name, value in defects.items())
