"""From a file to a `Config` with every problem reported at once, and back to text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sr_engine.config import overrides as overriding
from sr_engine.config import yaml12
from sr_engine.config.curriculum import complete
from sr_engine.config.keys import known_keys
from sr_engine.config.plugins import import_plugin
from sr_engine.config.problems import Problem, expected, from_validation, raise_problems
from sr_engine.config.rules import broken_rules
from sr_engine.config.schema import Config, Typed, WeightSchedule
from sr_engine.config.slots import flatten, separate
from sr_engine.config.yaml12 import Document, KeyPath, Value
from sr_engine.errors import ConfigError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file, lay `key.path=value` overrides over it and check everything.

    Types are looked up among what is registered: import the rooms that register (networks, losses, data sets,
    schedulers) before. `load_from` and `distill.teacher` are relative to the current folder, else to the file; plugins
    are relative to the file. All are absolute paths in the result, so that its dump can stand anywhere.

    Raises:
        ConfigError: with a line `file:line: path: expected X, got Y (did you mean 'z'?)` for each problem.
    """
    path = Path(path)
    document = yaml12.read(path)
    return _check(document, path.parent, overrides)


def parse_config(text: str, source: str = "configuration", overrides: Sequence[str] = ()) -> Config:
    """`load_config` for a text; relative paths are relative to the current folder."""
    return _check(yaml12.parse(text, source), Path(), overrides)


def dump_config(config: Config) -> str:
    """YAML with every default written out; `load_config` reads it back to an equal Config."""
    return yaml12.dump(plain_config(config))


def plain_config(config: Config) -> dict[str, Value]:
    """A configuration as nested dicts and lists in the form of files."""
    return _plain(config)


def _check(document: Document, folder: Path, overrides: Sequence[str]) -> Config:
    if document.value is None:
        document.value = {}
    if not isinstance(document.value, dict):
        raise_problems([expected((), "a mapping of keys to values", document.value)], document)
    problems = [
        Problem(path, f"expected this key once, got it again (first on line {line})")
        for path, line in document.repeated
    ]
    problems += overriding.apply(document, overrides)
    problems += _resolve_paths(document.value, folder)
    inherited = complete(document.value)
    problems += [problem for problem in separate(document.value) if problem.path[:5] not in inherited]
    config, found = _validate(document.value)
    problems += found
    if config is not None:
        reported = {problem.path for problem in problems}
        if any(path[:2] == ("training", "curriculum") for path in reported):
            reported.add(("training", "total_iter"))  # which was to follow from the stages
        problems += [problem for problem in broken_rules(config) if problem.path not in reported]
    raise_problems(problems, document)
    assert config is not None  # an invalid one has problems
    return config


def _validate(data: dict[Any, Value]) -> tuple[Config | None, list[Problem]]:
    """The configuration and its problems; where possible without what is wrong, so that rules can be checked too."""
    try:
        return Config.model_validate(data), []
    except ValidationError as error:
        problems = from_validation(error, data, (), lambda path: known_keys(Config, path))
    for problem in problems:
        _remove(data, problem.path)
    try:
        return Config.model_validate(data), problems
    except ValidationError:
        return None, problems


def _remove(data: dict[Any, Any], path: KeyPath) -> None:
    """Take out the innermost key of `path` that exists, or the mapping in which its last key is missing."""
    trail: list[tuple[dict[Any, Any], str | int]] = []
    inner: Any = data
    for step in path:
        if not isinstance(inner, dict) or step not in inner:
            break
        trail.append((inner, step))
        inner = inner[step]
    if trail:
        mapping, key = trail[-1]
        del mapping[key]


def _resolve_paths(data: dict[Any, Value], folder: Path) -> list[Problem]:
    """Make paths of models and `plugins` absolute, and import the plugins, since other keys need what they register."""
    distill = data.get("distill")
    for owner, key in ((data, "load_from"), (distill if isinstance(distill, dict) else {}, "teacher")):
        if isinstance(source := owner.get(key), str):
            found = next((place for place in (Path(source), folder / source) if _exists(place)), None)
            owner[key] = source if found is None else str(found.absolute())  # else it may be the name of a model
    plugins = data["plugins"] if isinstance(data.get("plugins"), list) else []
    problems = []
    for index, plugin in enumerate(plugins):
        if isinstance(plugin, str):
            plugins[index] = str((folder / plugin).absolute())
            try:
                import_plugin(folder / plugin)
            except ConfigError as error:
                problems.append(Problem(("plugins", index), str(error)))
    return problems


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the system's, or a folder that may not be looked into
        return False


def _plain(value: Any) -> Value:
    if isinstance(value, WeightSchedule) and value == WeightSchedule.model_validate(value.final_weight):
        return value.final_weight
    if isinstance(value, Typed):
        return _plain(flatten(value))
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
