"""Which of the models that come with the package is taken where none is named.

`tiny-x4-photo` is made for pictures that were compressed with loss (blur, noise, JPEG artefacts), `tiny-x4` for clean
ones; the same for other scales. Which of them a version brings along differs: what is there is used.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sr_engine.data.lossy import lossy_format
from sr_engine.errors import ModelFileError
from sr_engine.models.files import available_models

SCALE = 4


class Choice(NamedTuple):
    """models: the name of a model for each picture. reasons: one line for each of these models."""

    models: dict[Path, str]
    reasons: list[str]


def default_model(scale: int = SCALE, *, lossy: bool = False) -> str:
    """Name of the model for pictures of a kind; where only the one for the other kind comes along, that.

    Raises:
        ModelFileError: none of this scale comes with this version.
    """
    names = available_models()
    plain, photo = _names(scale)
    wanted = (photo, plain) if lossy else (plain, photo)
    found = next((name for name in wanted if name in names), None)
    if found is not None:
        return found
    if not names:
        raise ModelFileError(
            "no model given and none comes with this version: train one (sr-engine train configs/x4.yml) and pass "
            f"--model runs/x4, or take a classical upsampler: --model mks2021 --scale {scale}."
        )
    raise ModelFileError(
        f"no model given and none for scale {scale} comes with this version, only {', '.join(names)}: name a file "
        f"with --model, or take a classical upsampler: --model mks2021 --scale {scale}."
    )


def choose(pictures: Sequence[Path], scale: int = SCALE) -> Choice:
    """A model for each picture file, by whether it was compressed with loss.

    Raises:
        ModelFileError: as `default_model`.
    """
    kinds = {picture: lossy_format(picture) for picture in pictures}
    models = {picture: default_model(scale, lossy=kind is not None) for picture, kind in kinds.items()}
    both = set(_names(scale)) <= set(available_models())
    reasons = []
    for name in sorted(set(models.values())):
        mine = {picture: kinds[picture] for picture, model in models.items() if model == name}
        reasons.append(_reason(name, mine, scale) if both else f"{_what(list(mine))}: {name}")
    return Choice(models, reasons)


def scale_for(factor: float | None) -> int:
    """The scale of the model that comes along for any factor: the smallest that suffices, else the largest;
    SCALE where nothing is asked for.

    Raises:
        ModelFileError: none comes along.
    """
    there = [scale for scale in range(1, 17) if set(_names(scale)) & set(available_models())]
    if factor is None or not there:
        default_model(SCALE)
        return SCALE
    return next((scale for scale in there if scale >= factor - 1e-9), there[-1])


def _names(scale: int) -> tuple[str, str]:
    """The models for clean and for lossy pictures."""
    return f"tiny-x{scale}", f"tiny-x{scale}-photo"


def _what(pictures: Sequence[Path]) -> str:
    return pictures[0].name if len(pictures) == 1 else f"{len(pictures)} pictures"


def _reason(name: str, kinds: dict[Path, str | None], scale: int) -> str:
    plain, photo = _names(scale)
    one = len(kinds) == 1
    what = _what(list(kinds))
    if name == plain:
        has, it_was = ("has", "it was a JPEG") if one else ("have", "they were JPEGs")
        return f"{what} {has} no lossy compression: {plain} (--model {photo} if {it_was} before)"
    counts = Counter(kind for kind in kinds.values() if kind is not None)
    if one:
        (kind,) = counts
        why = f"is {'an' if kind == 'AVIF' else 'a'} {kind}"
    else:
        why = f"are lossy ({', '.join(f'{count} {kind}' for kind, count in counts.most_common())})"
    return f"{what} {why}: {photo} (made for noise and JPEG artefacts; --model {plain} for clean pictures)"
