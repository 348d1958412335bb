"""What the engine says of the number formats that it refuses is what was measured."""

from pathlib import Path

import pytest

from sr_engine import device

PAGE = Path(__file__).parents[2] / "docs" / "precision.md"


@pytest.mark.parametrize("name", sorted(device._REFUSED))
def test_a_refusal_cites_the_page(name: str) -> None:
    if not PAGE.exists():
        pytest.skip("docs/precision.md is not made yet: python -m bench.precision, on an idle machine")
    assert f"- {device._REFUSED[name]}.\n" in PAGE.read_text(encoding="utf-8")
