"""Tiled equals untiled, constants stay constant, nothing reaches beyond the picture."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sr_engine.infer.tiling import (
    FADE,
    Place,
    default_overlap,
    describe_overlap,
    fitting_overlap,
    joined,
    spans,
    tiled_rows,
    upscale_tiled,
)
from sr_engine.models.spec import ModelSpec


def spec(**changes) -> ModelSpec:
    fields = {
        "architecture": "fake",
        "arguments": {},
        "scale": 2,
        "parameters": 0,
        "training": {},
        "licence": "CC0-1.0",
    }
    return ModelSpec(**(fields | changes))


def nearest(scale: int):
    return lambda x: x.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


class ConvNet(nn.Module):
    """Three 3x3 convolutions and a pixel shuffle: sees exactly three pixels far."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.spec = spec(scale=scale, receptive_field=3)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(),
            nn.Conv2d(8, 3 * scale * scale, 3, padding=1), nn.PixelShuffle(scale),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.mark.parametrize("overlap", [0, 1, 2, 5, 8, 13])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 1), (1, 60), (49, 33)])
def test_nearest_upsampling_is_bit_exact_at_any_size_and_overlap(size, overlap):
    x = torch.rand(2, 3, *size)
    out = upscale_tiled(nearest(3), x, tile=16, overlap=overlap, scale=3)
    assert torch.equal(out, nearest(3)(x))


def test_identity_leaves_its_input_alone():
    x = torch.rand(1, 3, 50, 70)
    before = x.clone()
    assert torch.equal(upscale_tiled(lambda t: t, x, tile=16, overlap=4, scale=1), before)
    assert torch.equal(x, before)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.5, 1 / 3, 1.0])
def test_a_constant_picture_stays_exactly_constant(value):
    out = upscale_tiled(nearest(2), torch.full((1, 3, 75, 90), value), tile=24, overlap=8, scale=2)
    assert torch.equal(out, torch.full((1, 3, 150, 180), value))


@pytest.mark.parametrize("size", [(41, 41), (57, 95), (100, 33)])
@pytest.mark.parametrize("tile", [32, 40])
@torch.no_grad()
def test_equals_untiled_where_the_receptive_field_fits(size, tile):
    net, x = ConvNet(), torch.rand(1, 3, *size)
    whole = net(x)
    tiled = upscale_tiled(net, x, tile=tile, overlap=default_overlap(net.spec), scale=2)
    assert (tiled - whole).abs().max() < 1e-5
    without_overlap = upscale_tiled(net, x, tile=tile, overlap=0, scale=2)
    assert (without_overlap - whole).abs().max() > 1e-3, "the test could not notice a seam"


@torch.no_grad()
def test_border_rows_equal_untiled():
    net, x = ConvNet(), torch.rand(1, 3, 70, 70)
    whole, tiled = net(x), upscale_tiled(net, x, tile=32, scale=2)
    for edge in (tiled - whole)[..., [0, 1, -2, -1], :], (tiled - whole)[..., [0, 1, -2, -1]]:
        assert edge.abs().max() < 1e-5


def test_a_step_between_tiles_becomes_a_smooth_ramp():
    """A net that answers with its call's number shows the weights themselves."""
    calls = iter(range(2))
    out = upscale_tiled(
        lambda t: torch.full_like(t, next(calls)), torch.zeros(1, 1, 4, 40), tile=24, overlap=8, scale=1
    )
    profile = out[0, 0, 0]
    assert profile[0] == 0
    assert profile[-1] == 1
    assert (profile.diff() >= 0).all()
    assert profile.diff().max() < 0.5
    assert ((profile > 0) & (profile < 1)).sum() == 4, "half of the overlap fades"


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "multiple"), [(100, 32, 8, 1), (1000, 64, 20, 8), (65, 64, 48, 16), (97, 40, 39, 1)]
)
def test_spans_cover_the_axis_at_multiples(length, tile, overlap, multiple):
    found = spans(length, tile=tile, overlap=overlap, multiple=multiple)
    assert found[0][0] == 0
    assert found[-1][1] == length
    shared = -(-overlap // multiple) * multiple
    for (_, end), (start, _) in pairwise(found):
        assert end - start == shared
    for start, end in found:
        assert start % multiple == 0
        assert 0 < end - start <= tile


def test_spans_make_no_tile_larger_than_needed():
    assert spans(70, tile=64, overlap=8) == [(0, 39), (31, 70)]
    assert spans(64, tile=64, overlap=8) == [(0, 64)]
    assert spans(9999, tile=None, overlap=8) == [(0, 9999)]


def test_a_tile_within_its_overlap_is_an_error():
    with pytest.raises(ValueError, match="tile must be larger than its overlap of 32"):
        upscale_tiled(nearest(2), torch.zeros(1, 3, 64, 64), tile=32, overlap=32, scale=2)


def test_a_network_of_another_scale_is_an_error():
    with pytest.raises(ValueError, match="scale 4"):
        upscale_tiled(nearest(2), torch.zeros(1, 3, 64, 64), tile=32, overlap=8, scale=4)


def test_default_overlap_covers_the_receptive_field_on_both_sides():
    assert default_overlap(spec(receptive_field=10)) == 20 + FADE
    assert default_overlap(spec(receptive_field=10, size_multiple=16)) == 32
    assert default_overlap(spec(receptive_field=None)) == 32


def test_small_tiles_afford_less_overlap():
    assert fitting_overlap(64, 100, 16) == 32
    assert fitting_overlap(200, 58) == 58
    assert fitting_overlap(512, 384, 16) == 128
    assert fitting_overlap(160, 384, 24) == 48


def test_rows_come_in_order_and_no_network_call_exceeds_the_tile():
    sizes: list[tuple[int, ...]] = []

    def run(t: Tensor, place: Place) -> Tensor:
        sizes.append(tuple(t.shape[-2:]))
        assert torch.equal(t, x[..., place.top : place.top + t.shape[-2], place.left : place.left + t.shape[-1]])
        return nearest(2)(t)

    x = torch.rand(1, 3, 100, 80)
    bands = [band.clone() for band in tiled_rows(run, x, tile=32, overlap=8, scale=2)]
    assert len(bands) > 3
    assert torch.equal(torch.cat(bands, -2), nearest(2)(x))
    assert max(max(size) for size in sizes) <= 32


def test_integer_pictures_are_converted_tile_by_tile():
    x = torch.randint(0, 256, (1, 3, 50, 60), dtype=torch.uint8)
    out = upscale_tiled(lambda t: nearest(2)(t.float() / 255), x, tile=32, overlap=8, scale=2)
    assert torch.equal(out, nearest(2)(x.float() / 255))


def test_places_of_tiles_within_a_tile_count_from_the_picture():
    x = torch.rand(1, 1, 90, 70)
    seen: list[Place] = []

    def inner(t: Tensor, place: Place) -> Tensor:
        seen.append(place)
        assert torch.equal(t, x[..., place.top : place.top + t.shape[-2], place.left : place.left + t.shape[-1]])
        return t

    def outer(t: Tensor, place: Place) -> Tensor:
        return joined(tiled_rows(inner, t, tile=16, overlap=4, scale=1, place=place), t.shape[-2])

    assert torch.equal(joined(tiled_rows(outer, x, tile=40, overlap=8, scale=1), 90), x)
    assert max(seen)[0] > 70


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"receptive_field": 17}, "42 pixels, for a network that sees 17: tiles of 84 and more give"),
        (
            {"receptive_field": 345, "size_multiple": 32},
            "704 pixels, for a network that sees 345: tiles of 2816 and more",
        ),
        ({"receptive_field": None}, "32 pixels; the network sees without bound"),
    ],
)
def test_what_a_network_needs_of_tiles_is_said(fields, expected):
    assert describe_overlap(spec(**fields)).startswith(expected)
