"""What differs between two configurations, for a run that is continued with another one."""

from collections.abc import Iterator, Mapping

from sr_engine.config.load import plain_config
from sr_engine.config.problems import dotted, show
from sr_engine.config.schema import Config
from sr_engine.config.yaml12 import KeyPath, Value


def changed_keys(old: Config, new: Config) -> list[str]:
    """One line for each difference, in the order of the schema: `training.optim_g.lr: 0.001 -> 0.0005`."""
    return [f"{dotted(path)}: {text}" for path, text in _differences(plain_config(old), plain_config(new), ())]


def _differences(old: Value, new: Value, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            inner = (*path, key)
            if key not in new:
                yield inner, f"removed (was {show(old[key])})"
            elif key not in old:
                yield inner, f"added {show(new[key])}"
            else:
                yield from _differences(old[key], new[key], inner)
    elif _pairs_up(old, new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, (*path, index))
    elif old != new:
        yield path, f"{show(old)} -> {show(new)}"


def _pairs_up(old: Value, new: Value) -> bool:
    """Whether two lists hold mappings that can be compared one by one."""
    lists = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
    return lists and all(isinstance(item, Mapping) for item in (*old, *new))
