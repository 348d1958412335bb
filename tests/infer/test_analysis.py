"""What is known of a picture: regions, strips, a network's routes and gains; and the sheet that shows it."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sr_engine.errors import EngineError
from sr_engine.infer import analysis as module
from sr_engine.infer.analysis import analyse
from sr_engine.infer.analysis_sheet import analysis_sheet
from sr_engine.infer.classical import ClassicalUpsampler
from sr_engine.infer.colours import directional, diverging, sequential
from sr_engine.infer.regions import REGIONS
from sr_engine.models.generator import Generator


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def stripes(height: int, width: int, period: int = 12, angle: float = 0.3) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    wave = torch.sign(torch.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period))
    return (0.5 + 0.3 * wave).expand(3, -1, -1)


def gated(routing: str = "dense") -> Generator:
    """Two stages of attention whose gates and gains depend on the content."""
    torch.manual_seed(0)
    net = Generator(scale=2, preset="small", width=8, stages=2, units=1, heads=1, kernel_channels=4, window=8).eval()
    for name, parameter in net.named_parameters():
        if name.endswith(("gate.weight", "steer.2.weight")):
            torch.nn.init.normal_(parameter, std=2.0 if "gate" in name else 0.3)
    return net.set_routing("topk", 0.25) if routing == "topk" else net


@pytest.mark.parametrize(
    ("index", "picture"), list(enumerate([torch.full((3, 40, 50), 0.4), stripes(64, 64), noise(64, 64)])), ids=REGIONS
)
def test_flat_is_smooth_stripes_are_edges_and_noise_is_texture(index: int, picture: Tensor) -> None:
    found = analyse(picture)
    assert found.shares[index] > 0.9
    np.testing.assert_allclose(found.regions.mean((1, 2)), found.shares, rtol=1e-5)


def test_a_gentle_ramp_is_smooth() -> None:
    assert analyse(torch.linspace(0, 1, 60).expand(3, 60, 60)).shares[0] > 0.95


@pytest.mark.parametrize(("size", "most_cells"), [((101, 33), 1024), ((70, 45), 30)])
def test_strips_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch, size: tuple, most_cells: int) -> None:
    picture, net = noise(*size), gated("topk")
    whole = analyse(picture, net, most_cells=most_cells)
    monkeypatch.setattr(module, "_STRIP_PIXELS", 1)
    assert len(list(module._strips(picture, torch.device("cpu"), 8, whole.cell))) > 2
    parts = analyse(picture, net, most_cells=most_cells)
    assert max(whole.picture.shape[:2]) <= most_cells
    assert parts.shares == whole.shares
    for name in ("picture", "statistics", "direction", "coherence", "regions", "difficulty", "gains"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=1e-5, err_msg=name)
    for (gate, chosen), (expected, those) in zip(parts.routes, whole.routes, strict=True):
        np.testing.assert_allclose(gate, expected, rtol=1e-5)
        assert (chosen == those).all()


def test_bytes_are_floats_over_255() -> None:
    pixels = (noise(20, 30) * 255).round().to(torch.uint8)
    np.testing.assert_allclose(analyse(pixels).statistics, analyse(pixels.float() / 255).statistics, atol=1e-6)


def test_routes_and_gains_are_the_networks() -> None:
    picture, net = noise(40, 52), gated("topk")
    found = analyse(picture, net)
    expected = net.routes(picture[None])
    assert len(found.routes) == 2
    for (gate, chosen), route in zip(found.routes, expected, strict=True):
        np.testing.assert_allclose(gate, route.gate[0, 0].detach(), rtol=1e-5)
        assert (chosen == route.chosen[0, 0].numpy()).all()
        assert chosen.sum() == math.ceil(0.25 * chosen.size)
    assert found.notes == []
    assert found.gains is not None
    assert found.gains.std() > 0.001
    assert analyse(picture, net, share=0.5).routes[0][1].sum() == math.ceil(0.5 * found.routes[0][1].size)


def test_gains_are_the_mean_distance_from_neutral() -> None:
    net = Generator(scale=2, preset="resampler").eval()
    neutral = analyse(noise(9, 14), net).gains
    assert neutral is not None
    assert (neutral == 0).all()
    torch.nn.init.constant_(net.upsampler.level, math.atanh(-0.2))
    gains = analyse(noise(9, 14), net).gains
    assert gains is not None
    np.testing.assert_allclose(gains, 0.2, rtol=1e-5)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Generator(scale=2, preset="nano", steer=True, film=True), ["no attention"]),
        (Generator(scale=2, preset="tiny"), ["no attention", "not steered", "not modulated"]),
        (
            Generator(scale=2, preset="small", width=6, stages=1, units=1, heads=1, kernel_channels=0, gate=False),
            ["no gates"],
        ),
        (ClassicalUpsampler("bicubic", 2), ["no content-aware parts"]),
    ],
)
def test_what_a_network_lacks_is_said(net: torch.nn.Module, words: list[str]) -> None:
    notes = analyse(noise(16, 16), net.eval()).notes
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


def test_a_share_needs_gates() -> None:
    for net in (None, Generator(scale=2, preset="nano").eval(), ClassicalUpsampler("bicubic", 2)):
        with pytest.raises(EngineError, match=r"attention share of 0\.5 needs"):
            analyse(noise(16, 16), net, share=0.5)
    with pytest.raises(EngineError, match="share must be above 0"):
        analyse(noise(16, 16), gated(), share=0.0)


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (300, 1), (20, 130), (7, 5)])
def test_sheets_of_odd_pictures(tmp_path, size: tuple[int, int]) -> None:
    written = analysis_sheet(analyse(noise(*size), gated()), tmp_path / "sheet.png", title="naïve 写真")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == written
        assert sheet.mode == "RGB"
    assert max(written) < 6000


def test_the_sheet_shows_the_photo_in_whole_blocks(tmp_path) -> None:
    pixels = (noise(60, 48) * 255).round().to(torch.uint8)
    width, height = analysis_sheet(analyse(pixels), tmp_path / "sheet.png", title="t")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    block = pixels.permute(1, 2, 0).numpy().repeat(8, 0).repeat(8, 1)
    assert any(np.array_equal(sheet[y : y + 480, 24 : 24 + 384], block) for y in range(height - 480))
    assert width == 24 + 4 * (384 + 24)


def test_windows_without_attention_are_dark(tmp_path) -> None:
    picture = torch.full((3, 16, 16), 0.8)
    dense, routed = (analyse(picture, gated(), share=share) for share in (1.0, 0.25))
    for name, one in (("dense", dense), ("routed", routed)):
        analysis_sheet(one, tmp_path / f"{name}.png", title="t")
    a, b = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("dense", "routed"))
    # Three of four windows in each of two stages, besides a line of text.
    darker = ((a - b).sum(2) > 90).sum()
    assert 2 * 0.75 * 480**2 * 0.95 < darker < 2 * 0.75 * 480**2 * 1.05


def test_colours_are_ordered_by_lightness() -> None:
    light = sequential(np.linspace(-1, 2, 100), 0, 1).astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) >= -0.5).all()
    assert light[0] < 30
    assert light[-1] > 220
    low, middle, high = diverging(np.array([-1.0, 0.0, 1.0]), -1, 1).astype(int)
    assert low[0] > low[2] + 50
    assert high[2] > high[0] + 50
    assert middle.min() > 230
    # Equal angles have equal colours, opposite ones of the doubled angle (edges that cross) far ones.
    upright, level, none = directional(np.array([1.0, -1.0, 0.0]), np.zeros(3)).astype(int)
    assert abs(upright - level).max() > 100
    assert none.max() < 40
