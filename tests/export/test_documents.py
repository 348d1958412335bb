"""The programs of docs/export.md run as they stand, without this project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sr_engine.export import export_onnx, export_pt2
from tests.export.networks import network

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def program(kind: str) -> str:
    found = re.search(rf"^```python {kind}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def run(code: str, folder: Path) -> str:
    alone = "import sys\nfor name in ('sr_engine', 'sr_kernels'): sys.modules[name] = None\n"  # to import them fails
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", alone + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_onnxruntime_in_ten_lines(tmp_path: Path) -> None:
    net = network("convolutions")
    export_onnx(net, tmp_path / "tiny-x4.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (13, 18, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    code = program("onnx")
    assert len(code.splitlines()) <= 10
    assert run(code, tmp_path) == "unspecified\n"
    with torch.no_grad():
        expected = net(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0)
    written = np.asarray(Image.open(tmp_path / "upscaled.png"))
    assert written.shape == (52, 72, 3)
    assert np.abs(written - (expected.clamp(0, 1) * 255).numpy()).max() <= 0.51


@pytest.mark.parametrize("layout", ["dense"])
def test_torch_alone_runs_a_pt2(layout: str, tmp_path: Path) -> None:
    export_pt2(network(layout), tmp_path / "tiny-x4.pt2")
    assert run(program("pt2"), tmp_path) == "torch.Size([1, 3, 80, 112])\n"
