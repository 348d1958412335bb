"""The mild degradation: patches are crops of what a picture becomes, the JPEG grid lies anywhere, ranges are kept."""

import io
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy import ndimage

from sr_engine.cli.registrations import load_all
from sr_engine.config.load import parse_config
from sr_engine.data import TrainStream, build_dataset, train_loader, validation_pairs
from sr_engine.data import photo as photo_module
from sr_engine.data.bicubic import bicubic_down
from sr_engine.data.images import write_image
from sr_engine.data.photo import Photo, blur, photo_down, photo_patch
from sr_engine.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
HR = RNG.integers(0, 256, (96, 120, 3), dtype=np.uint8)
CLEAN: dict[str, Any] = {
    "blur_prob": 0.0,
    "noise_prob": 0.0,
    "jpeg_prob": 0.0,
    "filter_prob": (1.0, 0.0, 0.0, 0.0),
}
P = 8


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    noise = RNG.normal(0, 1, (height, width, 3))
    return np.clip(128 + 600 * ndimage.gaussian_filter(noise, (5, 5, 0)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_without_defects_it_is_the_bicubic_reduction(scale: int) -> None:
    options = Photo(**CLEAN)
    expected = bicubic_down(HR, scale)
    assert np.array_equal(photo_down(HR, scale, options, np.random.default_rng(0)), expected)
    for row, column in ((0, 0), (3, 5), (expected.shape[0] - P, expected.shape[1] - P)):
        patch = photo_patch(HR, row * scale, column * scale, P, scale, options, np.random.default_rng(0))
        assert np.array_equal(patch, expected[row : row + P, column : column + P])


@pytest.mark.parametrize("scale", [1, 3, 4])
def test_depends_on_its_arguments_alone(scale: int) -> None:
    first, again, other = (photo_down(HR, scale, Photo(), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.shape == (96 // scale, 120 // scale, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    for top in range(96 - P * scale + 1):  # borders of the picture included
        one, two = (photo_patch(HR, top, top, P, scale, Photo(), np.random.default_rng(top)) for _ in range(2))
        assert one.shape == (P, P, 3)
        assert np.array_equal(one, two)


def test_mean_colour_survives() -> None:
    hr = np.broadcast_to(np.array([200, 90, 40], np.uint8), (96, 96, 3))
    for seed in range(30):
        low = photo_down(hr, 4, Photo(noise_range=(0, 1)), np.random.default_rng(seed))
        assert np.abs(low.mean((0, 1)) - [200, 90, 40]).max() < 8  # JPEG rounds the colour of a flat block


def test_blur_is_the_gaussian_of_its_covariance() -> None:
    """Its moments on a delta, turned; and, for one that samples would do, the samples."""
    delta = np.zeros((33, 39, 1), np.float32)
    delta[16, 19] = 1.0
    theta, sigma = 0.7, (1.6, 0.5)
    kernel = blur(delta, sigma, theta)[:, :, 0].astype(np.float64)
    y, x = np.mgrid[-16:17, -19:20]
    rotation = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    expected = rotation @ np.diag(np.square(sigma)) @ rotation.T  # of (x, y)
    np.testing.assert_allclose(kernel.sum(), 1.0, rtol=1e-5)
    moments = [[(kernel * p * q).sum() for q in (x, y)] for p in (x, y)]
    np.testing.assert_allclose(moments, expected, atol=0.1)  # ripples weigh much far out
    picture = RNG.random((30, 21, 3), np.float32)
    expected = ndimage.gaussian_filter(picture.astype(np.float64), (1.2, 1.2, 0), mode="reflect", truncate=6)
    np.testing.assert_allclose(blur(picture, (1.2, 1.2), 0.4), expected, atol=2e-3)


def test_blur_of_the_reduction_is_nearly_that_of_the_original() -> None:
    hr = smooth(256, 256)
    low = blur(bicubic_down(hr, 4).astype(np.float32), (0.7, 0.7), 0.0)
    first = ndimage.gaussian_filter(hr.astype(np.float32), (2.8, 2.8, 0), mode="reflect")
    expected = bicubic_down(np.rint(first).astype(np.uint8), 4)
    assert np.abs(low - expected)[2:-2, 2:-2].mean() < 0.6
    assert np.abs(low - bicubic_down(hr, 4)).mean() > 2


@pytest.mark.parametrize("gray", [0.0, 1.0])
@pytest.mark.parametrize("photons", [0.0, 1.0])
def test_noise_has_the_strength_asked_for(gray: float, photons: float) -> None:
    strength = {"noise_prob": 1.0, "noise_range": (0.0, 8.0), "gray_noise_prob": gray, "photon_noise_prob": photons}
    options = Photo(**CLEAN | strength)
    for level, factor in ((128, 1.0), (32, 0.5)):
        hr = np.full((32, 32, 3), level, np.uint8)
        drawn = [photo_down(hr, 1, options, np.random.default_rng(seed)).astype(int) - level for seed in range(500)]
        stds = np.array([x.std() for x in drawn]) / (factor if photons else 1.0)
        # sigma = 8 u^2: its mean is 8 / 3 and half of the draws are below 2.
        assert stds.max() < 8.8
        assert stds.mean() == pytest.approx(8 / 3, abs=0.3)
        assert np.median(stds) == pytest.approx(2.0, abs=0.4)
        assert all(np.array_equal(x[:, :, 0], x[:, :, 1]) for x in drawn if x.std() > 1) == (gray == 1.0)


def test_jpeg_of_a_picture_begins_at_its_corner() -> None:
    hr = smooth(80, 72)
    jpeg = {"jpeg_prob": 1.0, "jpeg_range": (60.0, 60.0), "halved_colour_prob": 1.0}
    low = photo_down(hr, 2, Photo(**CLEAN | jpeg), np.random.default_rng(0))
    buffer = io.BytesIO()
    Pillow.fromarray(bicubic_down(hr, 2)).save(buffer, "JPEG", quality=60, subsampling=2)
    assert np.array_equal(low, np.asarray(Pillow.open(buffer)))


@pytest.mark.parametrize(("halved", "grid"), [(0.0, 8), (1.0, 16)])
def test_the_grid_of_jpeg_lies_anywhere_against_a_patch(
    halved: float, grid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every offset occurs, and inside the picture a patch is a crop of the picture coded with that grid."""
    jpeg = {"jpeg_prob": 1.0, "jpeg_range": (20.0, 95.0), "halved_colour_prob": halved}
    low = smooth(100, 100)
    sizes: list[tuple[int, ...]] = []
    through = photo_module.through_jpeg
    monkeypatch.setattr(photo_module, "through_jpeg", lambda *given: sizes.append(given[0].shape) or through(*given))
    seen: Counter[tuple[int, int]] = Counter()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        quality = photo_module._draw_jpeg(Photo(**CLEAN | jpeg), rng)
        assert quality is not None
        y, x = rng.integers(grid, size=2).tolist()
        offset = (y, x)
        seen[offset] += 1
        patch = photo_patch(low, 40, 44, 24, 1, Photo(**CLEAN | jpeg), np.random.default_rng(seed))
        if seed < 40:
            # A picture that begins where a block does, 2 blocks before the patch.
            y, x = 40 - offset[0] - grid, 44 - offset[1] - grid
            whole = through(low[y:, x:], quality.quality, quality.subsampling)
            expected = whole[40 - y :, 44 - x :][:24, :24].astype(int)
            inner = slice(2, -2)  # colours are interpolated across blocks
            assert np.abs(patch.astype(int) - expected)[inner, inner].max() <= 1
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(grid))
    assert all(n % grid == 0 for size in sizes for n in size[:2]), "whole blocks only"


def test_qualities_are_of_their_range_and_colours_halved_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    drawn = [photo_module._draw_jpeg(Photo(), rng) for _ in range(2000)]
    coded = [jpeg for jpeg in drawn if jpeg is not None]
    assert len(coded) / len(drawn) == pytest.approx(0.9, abs=0.03)
    assert {min(jpeg.quality for jpeg in coded), max(jpeg.quality for jpeg in coded)} == {40, 95}
    assert np.mean([jpeg.subsampling == "4:2:0" for jpeg in coded]) == pytest.approx(0.8, abs=0.04)


def test_samples_depend_on_their_number_alone(tmp_path: Path) -> None:
    for k in range(3):
        write_image(tmp_path / f"{k}.png", smooth(50 + k, 60))

    def stream() -> TrainStream:
        typed = ("folder", {"path": str(tmp_path), "degradation": "photo"})
        return TrainStream(build_dataset(typed, scale=2, patch_size=P, role="train"), scale=2, patch_size=P, seed=5)

    with train_loader(stream(), batch_size=6) as loader:
        batches = [next(loader) for _ in range(4)]
    with train_loader(stream(), batch_size=3, start_batch=3, rank=1, world_size=2, workers=0) as loader:
        again = next(loader)
    assert np.array_equal(again.lr, batches[3].lr[3:])
    assert np.array_equal(again.hr, batches[3].hr[3:])


@pytest.mark.parametrize("degradation", ["photo", "real_world"])
def test_a_validation_picture_is_degraded_by_its_name(tmp_path: Path, degradation: str) -> None:
    """The same every time, and whatever other pictures there are."""
    pictures = {name: smooth(40, 48) for name in "abc"}

    def pairs(names: str) -> dict[str, NDArray[np.uint8]]:
        folder = tmp_path / names
        for name in names:
            write_image(folder / f"{name}.png", pictures[name])
        dataset = build_dataset(("folder", {"path": str(folder), "degradation": degradation}), scale=2, role="val")
        return {pair.name: pair.lr for pair in validation_pairs(dataset, scale=2)}

    some, all_, again = pairs("bc"), pairs("abc"), pairs("abc")
    for name in "bc":
        assert np.array_equal(some[name], all_[name])
        assert np.array_equal(again[name], all_[name])
        assert not np.array_equal(all_[name], bicubic_down(pictures[name], 2))


def test_a_mapping_says_which_degradation_it_is(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", HR)

    def options(degradation: Any) -> Any:
        return build_dataset(
            ("folder", {"path": str(tmp_path), "degradation": degradation}), scale=2, role="val"
        ).degradation

    assert options("photo") == options({"type": "photo"}) == Photo()
    assert options({"type": "photo", "jpeg_range": (50, 60)}).jpeg_range == (50, 60)
    assert options({"jpeg_range": (50, 60)}).type == "real_world"
    for wrong in ("foto", {"type": "foto"}):
        with pytest.raises(DataError, match="degradation 'foto' is unknown: use bicubic, photo, real_world"):
            options(wrong)
    with pytest.raises(DataError, match="sinc_prob"):
        options({"type": "photo", "sinc_prob": 0.1})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("foto", "did you mean 'photo'"),
        ("{type: foto}", "degradation.type: expected 'real_world' or 'photo', got 'foto' .did you mean 'photo'"),
        ("{type: photo, noise_rage: [0, 3]}", "did you mean 'noise_range'"),
        ("{type: photo, blur_prob: 2}", "blur_prob"),
    ],
)
def test_a_configuration_is_checked_down_to_its_ranges(value: str, message: str) -> None:
    load_all()
    text = f"""
        name: t
        scale: 2
        datasets: {{train: {{type: folder, path: x, degradation: {value}}}}}
        losses: {{l1: {{}}}}
        training: {{total_iter: 1, batch_size: 1, patch_size: 8}}
        """
    with pytest.raises(ConfigError, match=message):
        parse_config(textwrap.dedent(text))
    parse_config(textwrap.dedent(text).replace(value, "{type: photo, noise_range: [0, 3]}"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"noise_range": (5, 1)}, "noise_range must be two numbers"),
        ({"blur_sigma": (-1, 1)}, "blur_sigma must be two numbers"),
        ({"noise_range": (0, float("inf"))}, "noise_range must be two numbers"),
        ({"jpeg_range": (0, 90)}, "jpeg_range must lie within 1 and 100"),
        ({"jpeg_range": (50, 101)}, "jpeg_range must lie within 1 and 100"),
        ({"filter_prob": (0, 0, 0, 0)}, "not 0"),
        ({"filter_prob": (2, 0, 0, 0)}, "filter_prob must be between 0 and 1"),
        ({"blur_prob": 1.5}, "blur_prob must be between 0 and 1"),
        ({"filter_list": ("area",)}, "1 filters have 4 chances"),
        ({"filter_list": ("nearest",), "filter_prob": (1.0,)}, "nearest"),
    ],
)
def test_impossible_parameters_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"photo: .*{message}"):
        Photo(**wrong)
