"""The evaluation protocol, its report and the comparison sheet."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from sr_engine.data import EvalPair
from sr_engine.errors import DataError, ImageFileError
from sr_engine.infer.evaluate import EvalReport, ImageScore, evaluate, folder_pairs, spoiled
from sr_engine.infer.sheet import comparison_sheet, sharpest_square
from sr_engine.infer.upscaler import Upscaler


def noise(height=40, width=48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def repeat(picture: np.ndarray, scale: int = 2) -> np.ndarray:
    return picture.repeat(scale, 0).repeat(scale, 1)


def test_report_has_the_published_json_form():
    report = EvalReport("tiny-x4", 4, [ImageScore("a", 30.0, 0.9, 0.5), ImageScore("b", 20.0, 0.7, 0.1)])
    assert json.loads(report.to_json()) == {
        "model": "tiny-x4",
        "scale": 4,
        "images": [
            {"name": "a", "psnr_y": 30.0, "ssim_y": 0.9, "seconds": 0.5},
            {"name": "b", "psnr_y": 20.0, "ssim_y": 0.7, "seconds": 0.1},
        ],
        "mean": {"psnr_y": 25.0, "ssim_y": pytest.approx(0.8)},
    }


def test_further_measures_follow_in_json_and_have_means():
    lr = noise(20, 24)
    measures = {"red": lambda sr, _: float(sr[..., 0].mean()), "number": lambda _, pair: float(pair.name)}
    pairs = [EvalPair("1", lr, repeat(lr)), EvalPair("2", lr, repeat(lr))]
    report = evaluate(repeat, pairs, scale=2, measures=measures)
    assert report.mean_more() == {"red": lr[..., 0].mean(), "number": 1.5}
    content = json.loads(report.to_json())
    assert [list(image)[-2:] for image in content["images"]] == [["red", "number"]] * 2
    assert list(content["mean"]) == ["psnr_y", "ssim_y", "red", "number"]


def test_spoiled_pictures_are_the_same_every_time_and_differ_from_each_other():
    lr = noise(20, 24)
    pairs = [EvalPair(name, lr, repeat(lr)) for name in ("a", "b")]
    first, again = (list(spoiled(pairs, noise=5, jpeg=50)) for _ in range(2))
    assert all(np.array_equal(x.lr, y.lr) for x, y in zip(first, again, strict=True))
    assert not np.array_equal(first[0].lr, first[1].lr)
    assert all(
        x.lr.shape == lr.shape and not np.array_equal(x.lr, lr) and x.hr is y.hr
        for x, y in zip(first, pairs, strict=True)
    )
    assert all(np.array_equal(x.lr, lr) for x in spoiled(pairs))


def test_a_perfect_result_is_null_in_json_and_infinite_in_python():
    lr = noise(20, 24)
    report = evaluate(repeat, [EvalPair("same", lr, repeat(lr))], scale=2)
    assert report.mean().psnr_y == math.inf
    assert report.mean().ssim_y == pytest.approx(1.0)
    assert json.loads(report.to_json())["mean"]["psnr_y"] is None


def test_borders_of_one_scale_do_not_count():
    lr = noise(20, 24)
    hr = repeat(lr)
    hr[:2], hr[-2:], hr[:, :2], hr[:, -2:] = 0, 0, 0, 0
    assert evaluate(repeat, [EvalPair("framed", lr, hr)], scale=2).mean().psnr_y == math.inf
    hr[2] = 0
    assert evaluate(repeat, [EvalPair("framed", lr, hr)], scale=2).mean().psnr_y < 30


def test_folder_pairs_are_cut_reduced_and_grey_becomes_rgb(tmp_path):
    Image.fromarray(noise(43, 50)).save(tmp_path / "b.png")
    Image.fromarray(noise(40, 40)[..., 0]).save(tmp_path / "a.png")
    pairs = list(folder_pairs(tmp_path, scale=4))
    assert [p.name for p in pairs] == ["a", "b"]
    assert [p.hr.shape for p in pairs] == [(40, 40, 3), (40, 48, 3)]
    assert [p.lr.shape for p in pairs] == [(10, 10, 3), (10, 12, 3)]
    expected = Image.fromarray(pairs[1].hr).resize((12, 10), Image.Resampling.BICUBIC)
    assert np.array_equal(pairs[1].lr, np.asarray(expected))


def test_empty_missing_and_too_small_are_named(tmp_path):
    with pytest.raises(DataError, match="gone"):
        folder_pairs(tmp_path / "gone", scale=4)
    with pytest.raises(DataError, match="no pictures"):
        folder_pairs(tmp_path, scale=4)
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate(repeat, [], scale=2)
    with pytest.raises(DataError, match="dot: 8x8 pixels are too few to score at x2: expected 15"):
        evaluate(repeat, [EvalPair("dot", noise(4, 4), noise(8, 8))], scale=2)


@pytest.mark.parametrize(("scale", "published"), [(4, 28.42), (2, 33.66)])
def test_bicubic_scores_as_published_on_set5(shared_data, scale, published):
    pairs = folder_pairs(shared_data / "test" / "Set5", scale=scale)
    report = evaluate(Upscaler("bicubic", scale=scale), pairs, scale=scale, model="bicubic")
    assert report.mean().psnr_y == pytest.approx(published, abs=0.02)
    assert [image.name for image in report.images] == ["baby", "bird", "butterfly", "head", "woman"]


@pytest.mark.slow
def test_bicubic_scores_as_published_on_bsd100(shared_data):
    pairs = folder_pairs(shared_data / "test" / "BSD100", scale=4)
    assert evaluate(Upscaler("bicubic", scale=4), pairs, scale=4).mean().psnr_y == pytest.approx(25.96, abs=0.02)


def test_sheet_shows_the_sharpest_detail_in_blocks(tmp_path):
    truth = np.full((120, 200, 3), 128, np.uint8)
    truth[60:100, 130:170] = noise(40, 40)
    assert sharpest_square(truth, 40) == (60, 130)
    versions = [truth // 2, truth]
    path = tmp_path / "sheet.png"
    comparison_sheet(["ours", "ground truth"], [("naïve 写真", versions), ("second", versions)], path, crop=40)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[2] == 3
    block = repeat(truth[60:100, 130:170], 8)
    found = [x for x in range(sheet.shape[1] - 320) if np.array_equal(sheet[60:380, x : x + 320], block)]
    assert len(found) == 1, "the ground truth's detail stands in the first row, every pixel as an 8x8 block"


def test_sheet_takes_pictures_smaller_than_the_detail(tmp_path):
    comparison_sheet(["a", "b"], [("small", [noise(11, 30), noise(11, 30)])], tmp_path / "sheet.png", shave=2)
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_sheet_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(DataError, match="at least one picture"):
        comparison_sheet(["a"], [], tmp_path / "sheet.png")
    with pytest.raises(DataError, match="odd: expected 2 pictures of one size"):
        comparison_sheet(["a", "b"], [("odd", [noise(20, 20), noise(20, 24)])], tmp_path / "sheet.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageFileError, match="cannot be written"):
        comparison_sheet(["a"], [("x", [noise()])], tmp_path / "file" / "sheet.png")
