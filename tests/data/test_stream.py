"""Samples by number: exact crops of the degraded picture, reproducible, and where the detail is."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sr_engine.data import PictureSet, TrainStream, build_dataset, preview_pairs, validation_pairs
from sr_engine.data.bicubic import bicubic_down
from sr_engine.data.detail import patch_detail
from sr_engine.data.images import write_image
from sr_engine.errors import DataError, ImageFileError

RNG = np.random.default_rng(0)
P = 8


def dataset(folder: Path, scale: int, **arguments: object) -> PictureSet:
    return build_dataset(("folder", {"path": str(folder), **arguments}), scale=scale, patch_size=P, role="train")


def stream(folder: Path, scale: int, seed: int = 0, **arguments: object) -> TrainStream:
    return TrainStream(dataset(folder, scale, **arguments), scale=scale, patch_size=P, seed=seed)


def noise(path: Path, height: int, width: int) -> np.ndarray:
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    write_image(path, pixels)
    return pixels


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_lr_patch_is_a_crop_of_the_degraded_picture(tmp_path: Path, scale: int) -> None:
    """At every aligned place, borders and a picture that is no multiple of the scale included."""
    hr = noise(tmp_path / "a.png", P * scale + 3 * scale + 1, P * scale + 5 * scale + 1)
    low = bicubic_down(hr, scale)
    made = stream(tmp_path, scale)
    for top in range(low.shape[0] - P + 1):
        for left in range(low.shape[1] - P + 1):
            where = (top * scale, left * scale, P, scale)
            patch = made.dataset.degradation.patch(hr, *where, np.random.default_rng())
            assert np.array_equal(patch, low[top : top + P, left : left + P])


@pytest.mark.parametrize("scale", [2, 3])
def test_samples_are_pairs_in_all_eight_orientations(tmp_path: Path, scale: int) -> None:
    hr = noise(tmp_path / "a.png", P * scale + 4, P * scale + 7)
    made, seen = stream(tmp_path, scale), Counter()
    crops = {hr[y : y + P * scale, x : x + P * scale].tobytes(): (y, x) for y in range(5) for x in range(8)}
    for k in range(200):
        sample = made[k]
        for turn in range(8):
            high = sample.hr.transpose(1, 2, 0)
            low = sample.lr.transpose(1, 2, 0)
            if turn & 4:
                high, low = high.swapaxes(0, 1), low.swapaxes(0, 1)
            high, low = (x[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1] for x in (high, low))
            place = crops.get(np.ascontiguousarray(high).tobytes())
            if place is not None:
                seen[turn] += 1
                assert np.array_equal(
                    low, made.dataset.degradation.patch(hr, *place, P, scale, np.random.default_rng())
                )
                break
        else:
            pytest.fail("a sample is no crop of its picture")
    assert len(seen) == 8
    plain = stream(tmp_path, scale, augment=False)
    assert all(np.ascontiguousarray(plain[k].hr.transpose(1, 2, 0)).tobytes() in crops for k in range(20))


def test_sample_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    for k in range(3):
        noise(tmp_path / f"{k}.png", 50, 60)
    for degradation in ("bicubic", "real_world"):
        first = stream(tmp_path, 2, degradation=degradation)
        expected = [first[k] for k in range(12)]
        again = pickle.loads(pickle.dumps(stream(tmp_path, 2, degradation=degradation)))
        for k in reversed(range(12)):
            assert np.array_equal(again[k].lr, expected[k].lr)
            assert np.array_equal(again[k].hr, expected[k].hr)
            assert again[k].name == expected[k].name
        other = stream(tmp_path, 2, seed=1, degradation=degradation)
        assert any(not np.array_equal(other[k].hr, expected[k].hr) for k in range(12))
    assert len({sample.hr.tobytes() for sample in expected}) == 12


def test_pairs_are_cropped_together(tmp_path: Path) -> None:
    hr = noise(tmp_path / "hr" / "a.png", 51, 60)
    marks = bicubic_down(hr, 2) ^ 1  # not what the engine would make itself
    write_image(tmp_path / "lr" / "a.png", marks)
    arguments = {"hr": str(tmp_path / "hr"), "lr": str(tmp_path / "lr"), "augment": False}
    pairs = TrainStream(
        build_dataset(("paired", arguments), scale=2, patch_size=P, role="train"), scale=2, patch_size=P, seed=0
    )
    places = {marks[y : y + P, x : x + P].tobytes(): (y, x) for y in range(18) for x in range(23)}
    for low, high in ((pairs[k].lr, pairs[k].hr) for k in range(20)):
        y, x = places[np.ascontiguousarray(low.transpose(1, 2, 0)).tobytes()]
        assert np.array_equal(high.transpose(1, 2, 0), hr[2 * y : 2 * y + 2 * P, 2 * x : 2 * x + 2 * P])


def test_detail_is_the_mean_laplacian_of_the_lr_luma() -> None:
    hr = np.repeat(RNG.integers(0, 256, (64, 80, 1), dtype=np.uint8), 3, axis=2)
    luma = hr[:, :, 0].reshape(32, 2, 40, 2).mean((1, 3))
    y = np.pad(np.rint(luma), 1, mode="edge")
    laplacian = np.abs(4 * y[1:-1, 1:-1] - y[:-2, 1:-1] - y[2:, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:])
    detail = patch_detail(hr, 2, P)
    for row, column in ((0, 0), (3, 5), (12, 16)):
        exact = np.sqrt(laplacian[2 * row : 2 * row + P, 2 * column : 2 * column + P].mean())
        assert detail[row, column] == pytest.approx(exact, rel=2e-2)


def test_detail_is_drawn_more_often(tmp_path: Path) -> None:
    half = np.full((64, 128, 3), 128, np.uint8)
    half[:, 64:] = RNG.integers(0, 256, (64, 64, 3))
    write_image(tmp_path / "half.png", half)
    write_image(tmp_path / "flat.png", np.full((64, 128, 3), 128, np.uint8))
    share = {}
    for hard in (0.0, 0.75):
        made = stream(tmp_path, 2, hard_sampling=hard)
        patches = [made[k].hr.std() > 5 for k in range(600)]
        share[hard] = np.mean(patches)
    # Uniformly, a 16-pixel patch touches the noisy quarter of the set at 63 of 113 positions of one of two pictures.
    assert share[0.0] == pytest.approx(63 / 113 / 2, abs=0.06)
    assert share[0.75] > 0.75 * 0.9
    assert share[0.75] < 0.97, "smooth patches remain"


def test_weights_draw_pictures(tmp_path: Path) -> None:
    for name in ("one/a.png", "two/b.png"):
        noise(tmp_path / name, 40, 40)
    paths = {str(tmp_path / "one"): 1.0, str(tmp_path / "two"): 4.0}
    typed = ("folder", {"path": paths})
    made = TrainStream(build_dataset(typed, scale=2, patch_size=P, role="train"), scale=2, patch_size=P, seed=0)
    count = Counter(made[k].name for k in range(500))
    assert count["b"] / 500 == pytest.approx(0.8, abs=0.06)


def test_damage_found_while_training(tmp_path: Path) -> None:
    for name in ("good.png", "bad.png"):
        noise(tmp_path / name, 40, 40)
    made = {mode: stream(tmp_path, 2, on_bad_file=mode, cache_mb=0) for mode in ("error", "skip")}
    content = (tmp_path / "bad.png").read_bytes()
    (tmp_path / "bad.png").write_bytes(content[:500])
    with pytest.raises(ImageFileError, match=r"bad\.png: is damaged or truncated"):
        [made["error"][k] for k in range(20)]
    assert {made["skip"][k].name for k in range(20)} == {"good"}
    assert list(made["skip"].skipped) == [str(tmp_path / "bad.png")]
    (tmp_path / "good.png").write_bytes(b"")
    with pytest.raises(DataError, match="in a row cannot be decoded"):
        made["skip"][0]


def test_preview_and_small_pictures(tmp_path: Path) -> None:
    noise(tmp_path / "a.png", 40, 40)
    made = stream(tmp_path, 2)
    pairs = preview_pairs(made, 3)
    assert [pair.hr.shape for pair in pairs] == [(2 * P, 2 * P, 3)] * 3
    assert np.array_equal(pairs[1].lr, made[1].lr.transpose(1, 2, 0))
    with pytest.raises(DataError, match=r"a\.png: is 40x40, expected at least 64x64"):
        TrainStream(made.dataset, scale=4, patch_size=16, seed=0)
    pair = validation_pairs(made.dataset, scale=3)[-1]
    assert pair.hr.shape == (39, 39, 3)
