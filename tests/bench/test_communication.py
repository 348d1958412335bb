"""The table of docs/scale.md."""

from pathlib import Path

import pytest

from bench.communication import sent, table


def test_the_document_has_the_table_of_the_command():
    assert table() in (Path(__file__).parents[2] / "docs/scale.md").read_text(encoding="utf-8")


def test_bytes_are_those_of_rings():
    assert sent(1_000_000, 2) == 4e6  # each of two sends half, adds, and sends the sum of its half
    assert sent(1_000_000, 8) == pytest.approx(7e6)
    assert sent(1_000_000, 8, divided=True) == pytest.approx(10.5e6)
    assert sent(1_000_000, 1) == 0
