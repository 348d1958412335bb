"""YAML 1.2 text to values, with the line of each.

PyYAML implements YAML 1.1, where `1e-4` is a string, `no` is false and `010` is 8. Here scalars follow the core schema
of YAML 1.2.2 (section 10.3.2); a key that stands twice in a mapping is an error, and tags create no objects.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError

from sr_engine.errors import ConfigError

MOST_LEVELS = 50  # of mappings and lists inside each other; no configuration has ten
MOST_VALUES = 100_000  # with what aliases repeat
_TOO_DEEP = f"values are more than {MOST_LEVELS} levels inside each other"
KeyPath = tuple[str | int, ...]
Value = Any  # None, bool, int, float, str, list or dict of these

_PREFIX = "tag:yaml.org,2002:"
_SCALARS = {
    "null": r"^(?:~|null|Null|NULL|)$",
    "bool": r"^(?:true|True|TRUE|false|False|FALSE)$",
    "int": r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$",
    "float": r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
}


class Location(NamedTuple):
    """Where something was written: a line of a file, or the command line (line 0)."""

    source: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass
class Document:
    """A parsed text: its value and where each part of it was written."""

    value: Value
    locations: dict[KeyPath, Location]
    repeated: list[tuple[KeyPath, int]] = field(default_factory=list)  # key, line of its first appearance

    def where(self, path: KeyPath) -> Location:
        """Where `path` was written, or the innermost mapping around it that was."""
        while path not in self.locations:
            path = path[:-1]
        return self.locations[path]


class Loader(yaml.SafeLoader):
    """Resolves plain scalars by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  PyYAML's own class-level table
    level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.level > MOST_LEVELS:  # before Python's own limit, which is of calls
            raise ComposerError(None, None, _TOO_DEEP, self.peek_event().start_mark)
        self.level += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.level -= 1


class Dumper(yaml.SafeDumper):
    """Quotes every string that a reader of YAML 1.1 or 1.2 would take for something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML's own class-level table
        first: list(entries) for first, entries in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


for _name, _pattern in _SCALARS.items():
    Loader.add_implicit_resolver(_PREFIX + _name, re.compile(_pattern), None)
    Dumper.add_implicit_resolver(_PREFIX + _name, re.compile(_pattern), None)


def parse(text: str, source: str, *, first_line: int = 1) -> Document:
    """Values and lines of a YAML text; `source` names it in locations (`first_line=0`: it has no lines).

    Raises:
        ConfigError: the text is not YAML, has a tag of its own, or an anchor that contains itself.
    """
    try:
        root = yaml.compose(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        location = Location(source, (mark.line + first_line if mark else 1) if first_line else 0)
        raise ConfigError(f"{location}: expected YAML, but {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: expected YAML, but {str(error).splitlines()[0]}") from None
    except ValueError as error:  # an escape or directive with a number that nothing has, such as "\\U00110000"
        raise ConfigError(f"{source}: expected YAML, but {error}") from None
    reader = _Reader(source, first_line)
    value = reader.read(root, ()) if root is not None else None
    return Document(value, reader.locations, reader.repeated)


def read(path: Path) -> Document:
    """Parse a file; see `parse`.

    Raises:
        ConfigError: also when the file is missing or is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file; configs/ holds examples.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a UTF-8 text file.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    return parse(text, str(path))


def dump(value: Value) -> str:
    """Block-style YAML text that `parse` reads back to an equal value; lists of scalars stay on one line."""
    return yaml.dump(_flow_lists(value), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Reader:
    def __init__(self, source: str, first_line: int) -> None:
        self.source = source
        self.first_line = first_line
        self.locations: dict[KeyPath, Location] = {(): Location(source, first_line)}
        self.repeated: list[tuple[KeyPath, int]] = []
        self.open: list[yaml.Node] = []  # nodes around the current one
        self.count = 0

    def line(self, node: yaml.Node) -> int:
        return node.start_mark.line + self.first_line if self.first_line else 0

    def read(self, node: yaml.Node, path: KeyPath) -> Value:
        if any(node is outer for outer in self.open):
            raise ConfigError(
                f"{Location(self.source, self.line(node))}: expected a value, but the anchor contains itself"
            )
        if len(self.open) > MOST_LEVELS:  # by aliases
            raise ConfigError(f"{Location(self.source, self.line(node))}: expected YAML, but {_TOO_DEEP}")
        self.count += 1
        if self.count > MOST_VALUES:
            text = f"expected at most {MOST_VALUES:,} values, got more; aliases repeat what they name"
            raise ConfigError(f"{Location(self.source, self.line(node))}: {text}")
        self.open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return self.sequence(node, path)
            return self.scalar(node)
        except ValueError:  # an explicit tag such as `!!int abc`
            location = Location(self.source, self.line(node))
            raise ConfigError(f"{location}: expected a value of its tag, got {node.value!r}") from None
        finally:
            self.open.pop()

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str | int, Value]:
        self.expect_tag(node, "map")
        result: dict[str | int, Value] = {}
        for key_node, value_node in node.value:
            key = self.read(key_node, path)
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise ConfigError(f"{Location(self.source, self.line(key_node))}: expected a name as key, got {key!r}")
            inner = (*path, key)
            if key in result:
                self.repeated.append((inner, self.locations[inner].line))
            self.locations[inner] = Location(self.source, self.line(key_node))
            result[key] = self.read(value_node, inner)
        return result

    def sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Value]:
        self.expect_tag(node, "seq")
        result = []
        for index, item in enumerate(node.value):
            self.locations[(*path, index)] = Location(self.source, self.line(item))
            result.append(self.read(item, (*path, index)))
        return result

    def scalar(self, node: yaml.Node) -> Value:
        text = node.value
        match node.tag.removeprefix(_PREFIX):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return self.whole(node)
            case "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            case "str":
                return self.text(node)
        raise self.unknown_tag(node)

    def whole(self, node: yaml.Node) -> int:
        text = node.value
        # int() takes time that grows with the square of the digits, and Python does not write what has 4300 of them.
        number = None if len(text) > 100 else int(text, 0) if text.startswith(("0o", "0x")) else int(text)
        if number is None or not -(2**63) <= number < 2**64:
            location = Location(self.source, self.line(node))
            raise ConfigError(f"{location}: expected a whole number of at most 64 bits, got {text[:40]} ...")
        return number

    def text(self, node: yaml.Node) -> str:
        if odd := next((sign for sign in node.value if sign == "\0" or "\ud800" <= sign <= "\udfff"), None):
            location = Location(self.source, self.line(node))
            raise ConfigError(f"{location}: expected text, got the character U+{ord(odd):04X}, which no file can hold")
        return node.value

    def expect_tag(self, node: yaml.Node, name: str) -> None:
        if node.tag != _PREFIX + name:
            raise self.unknown_tag(node)

    def unknown_tag(self, node: yaml.Node) -> ConfigError:
        return ConfigError(f"{Location(self.source, self.line(node))}: expected a value without a tag, got {node.tag}")


class _FlowList(list):
    """A list that is written on one line."""


def _flow_lists(value: Value) -> Value:
    if isinstance(value, dict):
        return {key: _flow_lists(item) for key, item in value.items()}
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return _FlowList(value)
    if isinstance(value, list):
        return [_flow_lists(item) for item in value]
    return value


Dumper.add_representer(
    _FlowList, lambda dumper, items: dumper.represent_sequence(_PREFIX + "seq", items, flow_style=True)
)
