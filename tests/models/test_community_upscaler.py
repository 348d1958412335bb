"""The Upscaler and the command line with files of other programs: tiles, alpha, grey, 16 bit, acceleration."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sr_engine.dropin
from sr_engine.cli.main import main
from sr_engine.errors import EngineError
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models import community
from sr_engine.models.files import save_model

spandrel = pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")

SWINIR = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8, "img_size": 16, "mlp_ratio": 2.0}
SWINIR |= {"upsampler": "pixelshuffledirect"}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SwinIR x2 that behaves like an upsampler: what it adds to mid-grey is small."""
    torch.manual_seed(0)
    net = community.spandrel(scale=2, arch="SwinIR", **SWINIR).net
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.06)
    nn.init.constant_(net.get_parameter("upsample.0.bias"), 0.5)
    path = tmp_path_factory.mktemp("models") / "2x.pth"
    torch.save({"params_ema": net.state_dict()}, path)
    return path


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (height, width, channels), np.uint8)


def test_it_equals_spandrel(file: Path) -> None:
    pixels = picture(19, 26)
    x = torch.tensor(pixels).permute(2, 0, 1)[None] / 255
    expected = spandrel.ModelLoader().load_from_file(file)(x)[0].permute(1, 2, 0)
    for accelerate in (True, False):
        out = Upscaler(file, device="cpu", precision="fp32", accelerate=accelerate)(pixels)
        assert np.abs(out.astype(int) - (expected * 255).round().numpy().astype(int)).max() <= (1 if accelerate else 0)


def test_tiles_keep_the_windows_of_the_whole_picture(file: Path) -> None:
    """What the neighbouring tile decides differs only by what attention sees beyond the overlap."""
    pixels = picture(100, 84).astype(np.float32) / 255
    whole, tiled = (Upscaler(file, device="cpu", precision="fp32", tile=tile) for tile in ("off", 64))
    assert tiled.spec.size_multiple == 8
    difference = np.abs(whole(pixels) - tiled(pixels))
    assert difference.max() < 0.02
    assert np.abs(difference).mean() < 1e-4
    moved = np.abs(whole(pixels)[6:, 6:] - whole(pixels[3:, 3:]))  # windows that lie elsewhere
    assert moved.mean() > 10 * difference.mean()


def test_alpha_grey_and_16_bit(file: Path) -> None:
    up = Upscaler(file, device="cpu", precision="fp32")
    for channels in (1, 2, 3, 4):
        deep = picture(9, 12, channels).astype(np.uint16) * 257
        out = up(deep)
        assert out.shape == (18, 24, channels)
        assert out.dtype == np.uint16
        assert len(np.unique(out % 257)) > 20


def test_acceleration_is_one_line_and_can_be_left_out(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original, seen = sr_engine.dropin.accelerate, []
    monkeypatch.setattr(sr_engine.dropin, "accelerate", lambda net: seen.append(net) or original(net))
    with caplog.at_level(logging.INFO, logger="sr_engine"):
        up = Upscaler(file, device="cpu")
    assert seen == [up.net]
    assert [record.message for record in caplog.records if "accelerate" in record.message] == caplog.messages
    assert len(caplog.messages) == 1
    assert "2 of 2 attention layers swapped" in caplog.text
    Upscaler(file, device="cpu", accelerate=False)
    Upscaler(up.net)  # used as it is
    assert len(seen) == 1
    save_model(tmp_path / "again.safetensors", up.net)  # nothing of it is in a file
    again = Upscaler(tmp_path / "again.safetensors", device="cpu", accelerate=False).net
    assert len({type(m) for m in again.modules()} - {type(m) for m in up.net.modules()}) > 0
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in up.net.state_dict().items())


def test_controls_of_generators_are_refused(file: Path) -> None:
    with pytest.raises(EngineError, match="has no control of sharpness"):
        Upscaler(file, sharpness=1.5)
    with pytest.raises(EngineError, match="upscales by 2, not by 4"):
        Upscaler(file, scale=4)


def test_verbs_accept_the_file(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(picture(24, 32)).save(tmp_path / "in/a.png")
    words = ["--model", str(file), "--device", "cpu", "--precision", "fp32"]
    for name, more in (("fast", []), ("plain", ["--no-accelerate"])):
        assert main(["upscale", str(tmp_path / "in/a.png"), "-o", str(tmp_path / f"{name}.png"), *words, *more]) == 0
    fast, plain = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("fast", "plain"))
    assert fast.shape == (48, 64, 3)
    assert np.abs(fast - plain).max() <= 1
    assert main(["eval", "--data", str(tmp_path / "in"), *words]) == 0
    assert "mean" in capsys.readouterr().out
    assert main(["info", "--model", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "SwinIR" in shown
    assert "embed_dim        12" in shown
    bad = ["--model", str(tmp_path / "in/a.png")]
    assert main(["upscale", str(tmp_path / "in/a.png"), "-o", str(tmp_path / "b.png"), *bad]) == 2
    assert "not a complete safetensors file" in capsys.readouterr().err


def test_a_restoring_network_works_at_scale_1(tmp_path: Path) -> None:
    net = community.spandrel(scale=1, arch="DnCNN", in_nc=3, out_nc=3, nc=4, act_mode="R").net
    torch.save(net.state_dict(), tmp_path / "denoise.pth")
    pixels = picture(20, 22, 4)
    out = Upscaler(tmp_path / "denoise.pth", device="cpu", precision="fp32", tile=32)(pixels)
    assert out.shape == pixels.shape
    assert np.array_equal(out[..., 3], pixels[..., 3])
