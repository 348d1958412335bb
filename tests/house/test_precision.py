"""Number formats that the engine refuses: everywhere, in any spelling, with what was measured."""

from pathlib import Path

import pytest
from torch import nn

from sr_engine import device, refused
from sr_engine.errors import EngineError, ExportError
from sr_engine.export import export_onnx

PAGE = Path(__file__).parents[2] / "docs" / "precision.md"


@pytest.mark.parametrize("name", sorted(refused._REFUSED))
def test_a_refusal_cites_the_page(name: str) -> None:
    assert f"- {refused._REFUSED[name]}.\n" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["int8", "INT8", "uint8", "w8a8", "fp8", "FP8", "float8", "torch.float8_e4m3fn"])
def test_every_usual_spelling_is_refused_with_its_loss(name: str) -> None:
    with pytest.raises(
        EngineError, match=r"is not offered, use one of fp32: (INT8|FP8) loses .*; docs/precision\.md\.$"
    ):
        device.check_precision(name, ("fp32",))


@pytest.mark.parametrize("name", ["fp4", "int", "int88", "", "8"])
def test_other_names_are_unknown(name: str) -> None:
    assert refused.refusal(name) is None
    with pytest.raises(EngineError, match=f"precision '{name}' is unknown"):
        device.check_precision(name)


def test_an_export_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"'int8' cannot be exported: expected .* \(INT8 loses .*; docs/precision\.md\)"
    ):
        export_onnx(nn.Identity(), tmp_path / "x.onnx", precision="int8")
    assert not list(tmp_path.iterdir())
