"""`sr-engine accelerate`: the table, the exit codes, the sentences."""

from pathlib import Path

import pytest
import torch

from sr_engine.cli.main import main
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


@pytest.fixture
def swinir_file(tmp_path: Path) -> Path:
    pytest.importorskip("spandrel", reason="comes with the `zoo` extra: pip install -e '.[zoo]'")
    from tests.zoo.test_accelerate_swinir import make_swinir

    torch.save({"params": make_swinir().state_dict()}, tmp_path / "2x_swinir.pth")
    return tmp_path / "2x_swinir.pth"


def test_layers_parity_time_and_memory(swinir_file, capsys):
    assert main(["accelerate", "--model", str(swinir_file), "--size", "16", "24"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "SwinTransformerBlock  SwinIR block  swapped, differs by at most" in lines[1]
    assert lines[2].startswith("4 of 4 attention layers swapped (4 SwinIR block)")
    size, *cells = lines[-1].split()
    assert size == "16x24"
    assert [cells[i] for i in (1, 3, 6, 8)] == ["ms", "ms", "MB", "MB"]
    assert float(cells[-1]) < 1e-5


def test_half_precision_that_only_the_fused_network_can_do(swinir_file, capsys):
    assert main(["accelerate", "--model", str(swinir_file), "--size", "16", "24", "--precision", "fp16"]) == 0
    assert "the original fails (" in capsys.readouterr().out


def test_nothing_to_swap(tmp_path, capsys):
    save_model(tmp_path / "ours.safetensors", Generator(scale=2, preset="nano", width=8, stages=1))
    assert main(["accelerate", "--model", str(tmp_path / "ours.safetensors")]) == 1
    assert "no attention layer that is known was found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "model", "sentence"),
    [
        (["0", "8"], "x.pth", "--size 0 8: expected two numbers of pixels, each at least 1"),
        (
            ["8", "8", "--precision", "int8"],
            "x.pth",
            "precision 'int8' is not offered, use one of fp32, bf16, fp16: INT8",
        ),
        (["8", "8", "--precision", "auto"], "x.pth", "precision 'auto' is unknown: expected one of fp32, bf16, fp16"),
        (["8", "8"], "missing.pth", "'missing.pth' is neither a file nor a name"),
    ],
)
def test_bad_input(size, model, sentence, capsys):
    assert main(["accelerate", "--model", model, "--size", *size]) == 2
    assert sentence in capsys.readouterr().err
