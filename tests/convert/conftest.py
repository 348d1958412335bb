"""A sample option file with some values changed, translated."""

from pathlib import Path
from typing import Any

import pytest

from sr_engine.config import yaml12
from sr_engine.convert.convert import Name, convert_file, read_options
from sr_engine.convert.translation import Translation
from tests.convert.samples import OPTIONS, Change, put

DIALECTS: dict[str, Name] = {"basicsr": "basicsr", "redux": "trainner", "phhofm": "trainner", "neosr": "neosr"}


@pytest.fixture
def change(tmp_path: Path) -> Change:
    """`change("basicsr_swinir", {"train.pixel_opt.reduction": "sum"})` translates the sample with these values."""

    def translate(sample: str, values: dict[str, Any] | None = None, *, nearest: bool = False) -> Translation:
        (path,) = (file for file in OPTIONS.iterdir() if file.stem == sample)
        tree, _ = read_options(path)
        for key, value in (values or {}).items():
            put(tree, key, value)
        file = tmp_path / f"{sample}.yml"
        file.write_text(yaml12.dump(tree), encoding="utf-8")
        return convert_file(file, DIALECTS[sample.split("_")[0]], nearest=nearest)[1]

    return translate
