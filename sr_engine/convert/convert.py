"""From an option file to a translation: reading it, recognising its dialect, and translating."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from sr_engine.config import yaml12
from sr_engine.config.yaml12 import Value
from sr_engine.convert import basicsr, neosr, trainner
from sr_engine.convert.common import Dialect, translate
from sr_engine.convert.translation import ConversionError, Translation
from sr_engine.convert.values import NoEqualError
from sr_engine.errors import ConfigError

Name = Literal["basicsr", "trainner", "neosr"]
NAMES: tuple[Name, ...] = ("basicsr", "trainner", "neosr")
_DIALECTS: dict[Name, tuple[Dialect, Callable[[Mapping[Any, Value]], list[str]]]] = {
    "basicsr": (basicsr.DIALECT, basicsr.recognise),
    "trainner": (trainner.DIALECT, trainner.recognise),
    "neosr": (neosr.DIALECT, neosr.recognise),
}
_CHECKS: dict[Name, Callable[[Translation], None]] = {"basicsr": basicsr.check_model, "neosr": neosr.check_model}
FORK = (
    "Schedules of loss weights follow the fork's description. Its code (66ad107) multiplies the scheduled weight by "
    "loss_weight once more, and leaves out a loss whose loss_weight is 0."
)


def convert_file(path: Path, dialect: Name | None = None, *, nearest: bool = False) -> tuple[str, Translation]:
    """Translate an option file; returns what language it was taken for, and the translation.

    Raises:
        ConfigError: the file cannot be read.
        ConversionError: it cannot be translated at all.
    """
    tree, notes = read_options(path)
    if dialect is None:
        dialect, why = recognise(tree, path)
        title = f"{_DIALECTS[dialect][0].title} (recognised by {', '.join(why[:3])})"
    else:
        title = f"{_DIALECTS[dialect][0].title} (as --from says)"
    if dialect == "trainner" and (own := trainner.fork(tree)):
        title += f", with keys of Philip Hofmann's fork ({own[0]})"
        notes += [FORK] if any("losses" in key for key in own) else []
    t = Translation(tree, nearest=nearest)
    t.notes += notes
    try:
        if dialect in _CHECKS:
            _CHECKS[dialect](t)
        translate(t, _DIALECTS[dialect][0], path.stem)
    except NoEqualError as reason:
        raise ConversionError(f"{path}: {reason}.") from None
    return title, t


def recognise(tree: Mapping[Any, Value], path: Path) -> tuple[Name, list[str]]:
    """The dialect with the most keys that no other has, and those keys.

    Raises:
        ConversionError: none, or two alike.
    """
    found = {name: look(tree) for name, (_, look) in _DIALECTS.items()}
    if path.suffix == ".toml":
        found["neosr"] = ["TOML", *found["neosr"]]
    ranked = sorted(NAMES, key=lambda name: len(found[name]), reverse=True)
    best, second = ranked[0], ranked[1]
    if not found[best] or len(found[best]) == len(found[second]):
        raise ConversionError(
            f"{path}: not recognised as an option file of BasicSR, traiNNer-redux or neosr: say which with --from."
        )
    return best, found[best]


def read_options(path: Path) -> tuple[dict[Any, Value], list[str]]:
    """The file as nested mappings, and notes on what is odd in it.

    Raises:
        ConfigError: it is missing, or neither YAML nor TOML.
    """
    if path.suffix == ".toml":
        try:
            return tomllib.loads(path.read_text(encoding="utf-8")), []
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: expected TOML, but {error}.") from None
    document = yaml12.read(path)
    if not isinstance(document.value, dict):
        raise ConfigError(f"{path}: expected a mapping of options.")
    notes = [
        f"{'.'.join(map(str, key))} stands twice (first on line {line}): the last one counts, as there."
        for key, line in document.repeated
    ]
    return document.value, notes
