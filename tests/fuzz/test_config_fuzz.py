# ruff: noqa: PT017 (an error is one of two right outcomes)
"""Configurations of any content: a Config or a ConfigError comes back, nothing is run, nothing else is raised."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sr_engine.cli.registrations import load_all
from sr_engine.config import yaml12
from sr_engine.config.load import dump_config, load_config, parse_config
from sr_engine.config.schema import Config
from sr_engine.convert.convert import NAMES, convert_file
from sr_engine.errors import ConfigError, EngineError
from tests.fuzz.mutations import damaged, examples

ROOT = Path(__file__).parents[2]
CONFIGS = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yml"))]
OPTIONS = sorted((ROOT / "tests/convert/options").iterdir())
LINES = [config.splitlines(keepends=True) for config in CONFIGS]

# What has broken other readers of YAML: tags, escapes, directives, bombs and numbers.
ODD_SCALARS = st.sampled_from([
    *("~", "null", "yes", "0x" + "f" * 5000, "-0o777", "9" * 400, "-1", "1e999", ".nan", "-.inf", "0", f"{2**64}"),
    *("2026-11-23", "2026-11-23T21:38:56Z", "1:30", "1_000", "=", "<<", "!!binary aGFsbG8=", "!!timestamp 2026-11-23"),
    *("!!python/object/apply:os.system [touch TRACE]", "!!python/name:os.system", "!!python/object/new:type []"),
    *("!!set {a, b}", "!!omap [a: b]", "!!float abc", "!!int ''", "!!bool maybe", "!!null x", "!!str {a: b}", "! x"),
    *('"\\U00110000"', '"\\ud800"', '"\\0"', '"' + "x" * 300 + '"', "[" * 500, "{a: " * 500, "*nowhere", "&a [*a]"),
    *("&a [x, x], *a", "? [a]", "{[a]: b}", "{{a: b}: c}", "{1: 2}", "{null: 1}", "%TAG ! x", "--- a", "|", ">-", "'"),
    *("{type: generator}", "{type: spandrel, arch: SwinIR, window_size: 0}", "{type: l1, loss_weight: {}}", "#"),
    *("[]", "{}", "[{scale: 2, iters: 3}]", "../..", "/dev/null", "/" + "a/" * 3000, "tiny-x4", "true"),
    *("{type: __class__}", "{final_weight: 1e400}"),
])  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["auto", "l1"])
)
KEYS = st.sampled_from(
    sorted({line.split(b":")[0].strip().decode() for lines in LINES for line in lines if b":" in line})
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module", autouse=True)
def _rooms() -> None:
    load_all()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Commands that a tag ran would leave their traces in an empty folder."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.glob("TRACE*"))


def outcome(text: str, *overrides: str) -> None:
    """Read a configuration; a valid one survives being written."""
    try:
        config = parse_config(text, "fuzz", overrides)
    except ConfigError as error:
        assert str(error)
        assert len(str(error)) < 200_000
    else:
        assert isinstance(config, Config)
        assert parse_config(dump_config(config)) == config


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(*path, key), *_places(item, (*path, key))]]


TREES = [yaml12.parse(config.decode(), "").value for config in CONFIGS]
PLACES = sorted({place for tree in TREES for place in _places(tree)}, key=str)


@examples(200)
@given(st.text() | st.text(alphabet="[]{}:,-?!&*|>'\"%@`# \n\tab01.~\\U", max_size=60))
def test_any_text(text: str) -> None:
    outcome(text)


@examples(150)
@given(
    st.sampled_from(range(len(CONFIGS))), st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3)
)
def test_any_value_under_a_known_key(number: int, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    tree = yaml12.parse(CONFIGS[number].decode(), "").value
    for path, value in changes:
        _put(tree, path, value)
    try:
        text = yaml12.dump(tree)
        yaml12.parse(text, "")
    except (ValueError, ConfigError):  # what YAML cannot hold at all, such as a lone surrogate
        return
    outcome(text)


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        inside = step in tree if isinstance(tree, dict) else isinstance(tree, list) and step in range(len(tree))
        if not inside:
            return
        tree = tree[step]
    if isinstance(tree, dict) or (isinstance(tree, list) and path[-1] in range(len(tree))):
        tree[path[-1]] = value


@examples(150)
@given(damaged(CONFIGS))
def test_damaged_files(content: bytes) -> None:
    path = Path("damaged.yml")
    path.write_bytes(content)
    try:
        assert isinstance(load_config(path), Config)
    except ConfigError as error:
        assert str(error).startswith("damaged.yml")


@st.composite
def relined(draw: Any) -> str:
    """A configuration with lines repeated, left out, swapped, indented otherwise, or with another value."""
    lines = list(draw(st.sampled_from(LINES)))
    for _ in range(draw(st.integers(1, 3))):
        lines = lines or [b"a: b\n"]
        at, to = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        match draw(st.integers(0, 5)):
            case 0:
                lines.insert(to, line)
            case 1:
                del lines[at]
            case 2:
                lines[at], lines[to] = lines[to], line
            case 3:
                lines[at] = b" " * draw(st.integers(0, 6)) + line.lstrip()
            case _:
                head, colon, _ = line.partition(b":")
                lines[at] = (head if colon else b"x") + b": " + draw(ODD_SCALARS).encode() + b"\n"
    return b"".join(lines).decode()


@examples(250)
@given(relined())
def test_lines_and_values_changed(text: str) -> None:
    outcome(text)


@examples(150)
@given(
    st.lists(
        st.builds(
            lambda path, value: f"{path}={value}",
            st.sampled_from([".".join(map(str, place)) for place in PLACES]) | st.text(max_size=12) | KEYS,
            ODD_SCALARS | st.text(max_size=12) | SCALARS.map(str),
        )
        | st.text(max_size=20),
        max_size=3,
    )
)
def test_any_override(overrides: list[str]) -> None:
    outcome(CONFIGS[4].decode(), *overrides)


@examples(100)
@given(st.sampled_from(OPTIONS), st.data(), st.sampled_from([None, *NAMES]))
def test_option_files_of_others(source: Path, data: Any, dialect: Any) -> None:
    path = Path(f"damaged{source.suffix}")
    content = source.read_bytes()
    if data.draw(st.booleans()):
        lines = content.splitlines(keepends=True)
        at = data.draw(st.integers(0, len(lines) - 1))
        head, mark, _ = lines[at].partition(b":" if source.suffix == ".yml" else b"=")
        lines[at] = head + mark + b" " + data.draw(ODD_SCALARS).encode() + b"\n"
        content = b"".join(lines)
    else:
        content = data.draw(damaged([content]))
    path.write_bytes(content)
    try:
        convert_file(path, dialect)
    except EngineError as error:
        assert str(error)
