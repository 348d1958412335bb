"""YAML 1.2: the examples of its core schema, lines, and text that comes back unchanged."""

import math
from pathlib import Path

import pytest

from sr_engine.config.yaml12 import dump, parse, read
from sr_engine.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # YAML 1.2.2, example 10.9 (core schema), then what YAML 1.1 reads differently
        ("null", None),
        ("", None),
        ("~", None),
        ("true", True),
        ("True", True),
        ("false", False),
        ("0", 0),
        ("0o7", 7),
        ("0x3A", 58),
        ("-19", -19),
        ("0.", 0.0),
        ("-0.0", -0.0),
        (".5", 0.5),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("1e-4", 1e-4),
        ("2E3", 2000.0),
        ("010", 10),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'1e-4'", "1e-4"),
        ("0b1", "0b1"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    got = parse(f"key: {text}", "file").value["key"]
    assert got == value
    assert type(got) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse(".nan", "file").value)


def test_locations_are_lines_of_keys_and_items() -> None:
    document = parse("a: 1\nb:\n  c: [1,\n      2]\n  d: x\n", "f.yml")
    assert str(document.where(("a",))) == "f.yml:1"
    assert str(document.where(("b", "c", 1))) == "f.yml:4"
    assert str(document.where(("b", "d"))) == "f.yml:5"
    assert str(document.where(("b", "missing", "below"))) == "f.yml:2"


def test_a_key_that_stands_twice_is_found() -> None:
    document = parse("a: {x: 1}\nb: 2\na: 3\n", "f")
    assert document.repeated == [(("a",), 1)]


def test_anchors_are_values() -> None:
    assert parse("a: &x {k: 1}\nb: *x\n", "f").value == {"a": {"k": 1}, "b": {"k": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", "f:2: expected YAML"),
        ("a: b: c\n", "f:1: expected YAML"),
        ("a: 1\n\tb: 2\n", "f:2: expected YAML"),
        ("a: !!python/object:os.system x\n", "f:1: expected a value without a tag"),
        ("a: 1\nb: !own {}\n", "f:2: expected a value without a tag, got !own"),
        ("a: !!int abc\n", "f:1: expected a value of its tag"),
        ("? [1, 2]\n: x\n", "f:1: expected a name as key"),
        ("a: &x [*x]\n", "f:1: expected a value, but the anchor contains itself"),
        ("a: 1\n---\nb: 2\n", "f:2: expected YAML"),
        ('a: 1\nb: "x\\0"\n', "f:2: expected text, got the character U+0000"),
        ('a: "\\ud800"\n', "f:1: expected text, got the character U+D800"),
        (f"a: 0x{'f' * 5000}\n", "f:1: expected a whole number of at most 64 bits, got 0xfff"),
        (f"a: {'9' * 5000}\n", "f:1: expected a whole number of at most 64 bits, got 999"),
        ("a: 18446744073709551616\n", "f:1: expected a whole number of at most 64 bits, got 1844"),
        ('a: "\\U00110000"\n', "f: expected YAML, but chr()"),
        (f"%YAML {'9' * 5000}.1\n--- a\n", "f: expected YAML, but Exceeds the limit"),
    ],
)
def test_what_is_no_plain_yaml_names_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text, "f")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "{a: " * 1000,
        "\n".join(" " * level + "a:" for level in range(1000)),
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 1000)),
    ],
)
def test_nesting_is_limited(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^f:\d+: expected YAML, but values are more than 50 levels inside each other"
    ):
        parse(text, "f")


def test_aliases_that_repeat_each_other_are_limited() -> None:
    """A few lines that stand for 10 ** 9 values."""
    lines = ["a0: &a0 x\n", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))]
    with pytest.raises(ConfigError, match=r"^f:\d+: expected at most 100,000 values, got more; aliases repeat"):
        parse("".join(lines), "f")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        read(tmp_path / "none.yml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "latin.yml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read(tmp_path / "latin.yml")


def test_dump_reads_back() -> None:
    value = {
        "numbers": [1, -2, 1e-6, 1e22, 0.1, 3.0],
        "strings": ["1e-4", "no", "010", "0o7", "~", "", "2024-01-01", "a: b", "null", "1_000", "é", "x" * 200],
        "nested": {"empty": {}, "list": [[1, 2], {"k": [True, None]}], "none": None},
    }
    assert parse(dump(value), "f").value == value


def test_dump_quotes_what_yaml_1_1_would_change() -> None:
    assert dump({"a": "no"}) == "a: 'no'\n"
