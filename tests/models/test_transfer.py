from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from sr_engine.errors import ModelFileError
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator
from sr_engine.models.transfer import resize_sub_pixels, transfer_weights


def small(scale: int, **arguments: Any) -> Generator:
    given: dict[str, Any] = {"preset": "nano", "width": 8, "stages": 1, "steer": True, "film": True, **arguments}
    return Generator(scale=cast(Any, scale), **given)


@pytest.fixture
def source(tmp_path: Path) -> Generator:
    """A trained x2 network, saved as a run."""
    torch.manual_seed(0)
    net = small(2)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    save_model(tmp_path / "model.safetensors", net)
    return net


def test_the_same_scale_takes_everything(source: Generator, tmp_path: Path) -> None:
    net = small(2)
    report = transfer_weights(net, tmp_path)
    assert sorted(report.loaded) == sorted(source.state_dict())
    assert report.resized + report.missing + report.unused == []
    x = torch.rand(1, 3, 5, 6)
    assert torch.equal(net(x), source(x))


def test_another_scale_interpolates_the_tail(source: Generator, tmp_path: Path) -> None:
    net = small(4)
    report = transfer_weights(net, tmp_path / "model.safetensors")
    assert report.resized == ["tail.weight", "tail.bias"]
    assert report.missing + report.unused == []
    assert torch.equal(net.body[0].convs[0].weight, source.body[0].convs[0].weight)  # pyright: ignore
    assert net.tail.bias.abs().sum() > 0  # pyright: ignore
    assert report.summary() == (
        f"{len(report.loaded)} weights taken over\n2 interpolated for the new scale: tail.weight, tail.bias"
    )


def test_interpolated_tail_draws_the_same_picture_at_the_new_size() -> None:
    """Sub-pixel kernels that sample a ramp across the cell sample the same ramp in finer steps."""

    def ramp(scale: int) -> torch.Tensor:
        at = (torch.arange(scale) + 0.5) / scale
        cell = at[:, None] * 2 + at[None, :] * 3
        return torch.stack([cell, cell + 1, cell - 1]).flatten()[:, None, None, None].expand(-1, 8, 3, 3)

    for new in (3, 4):
        cells = resize_sub_pixels(ramp(2), 2, new).view(3, new, new, 8, 3, 3)
        expected = ramp(new).view_as(cells)
        # Outside the outermost samples of the coarse ramp bilinear interpolation holds its value.
        inside = slice(1, -1)
        torch.testing.assert_close(cells[:, inside, inside], expected[:, inside, inside])
    torch.testing.assert_close(resize_sub_pixels(ramp(4), 4, 2), ramp(2))
    assert torch.equal(resize_sub_pixels(ramp(1), 1, 3).view(3, 9, -1).std(1), torch.zeros(3, 72))


def test_a_folded_source_gives_the_same_function(source: Generator, tmp_path: Path) -> None:
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        expected = source(x)
        save_model(tmp_path / "folded.safetensors", source.fold())
        net = small(2)
        report = transfer_weights(net, tmp_path / "folded.safetensors")
        torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-5)
    assert sorted(report.loaded) == sorted(net.state_dict())
    assert report.missing + report.unused == []


def test_what_has_no_place_is_reported(source: Generator, tmp_path: Path) -> None:
    net = small(2, stages=2, steer=False)
    report = transfer_weights(net, tmp_path)
    assert "upsampler.steer.2.weight" in report.unused
    assert report.missing
    assert all(name.startswith("body.1.") for name in report.missing)
    assert "left as initialised: body.1." in report.summary()


def test_shapes_that_differ_are_left_alone(source: Generator, tmp_path: Path) -> None:
    net = small(2, width=12)
    report = transfer_weights(net, tmp_path)
    assert "stem.weight" in report.missing
    assert "stem.weight" in report.unused
    assert "upsampler.level" in report.loaded


def test_a_source_in_which_nothing_fits(source: Generator, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="nothing in it fits"):
        transfer_weights(nn.Linear(2, 2), tmp_path)
