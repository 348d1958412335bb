"""The ablation of the content-aware parts: what it scores, how it pairs, and that it takes up where it stopped."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import ablation
from bench.ablation_score import region_errors, score
from sr_engine.infer.evaluate import evaluate, folder_pairs
from sr_engine.infer.regions import REGIONS
from sr_engine.infer.upscaler import Upscaler


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures: flat ground on the left, noise on the right."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(2):
        Image.fromarray(half_noise(64, 96, seed)).save(folder / f"{seed}.png")
    return folder


def half_noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    picture = np.full((height, width, 3), 120, np.uint8)
    picture[:, width // 2 :] = np.random.default_rng(seed).integers(0, 256, (height, width // 2, 3))
    return picture


def test_an_error_counts_for_the_region_it_is_in() -> None:
    truth = half_noise(64, 96)
    wrong = truth.copy()
    wrong[:, :24] += 10
    errors, counts = region_errors(wrong, truth, shave=4)
    assert counts.sum() == (64 - 8) * (96 - 8)
    # A grey level is 219/255 of a step of luma; 20 columns of it are left of the shaved ones.
    luma = 10 * 219 / 255
    np.testing.assert_allclose(errors, [56 * 20 * luma**2, 0, 0], rtol=1e-6)
    assert 0.4 < counts[0] / counts.sum() < 0.5


def test_the_score_is_that_of_the_evaluation(photos: Path) -> None:
    pairs, up = folder_pairs(photos, scale=4), Upscaler("bicubic", scale=4)
    found = score(up, pairs, 4)
    assert found["psnr_y"] == pytest.approx(evaluate(up, pairs, scale=4).mean().psnr_y)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["regions"]["smooth"] > found["regions"]["texture"] + 3
    # All regions together are all pixels.
    mean = sum(found["shares"][name] * 10 ** (-found["regions"][name] / 10) for name in REGIONS)
    whole = np.mean([10 ** (-psnr / 10) for psnr in found["images"].values()])
    assert -10 * math.log10(mean) == pytest.approx(-10 * math.log10(whole))


def row(variant: str, seed: int, psnr: float) -> dict:
    return {
        "variant": variant,
        "seed": seed,
        "psnr_y": psnr,
        "regions": dict.fromkeys(REGIONS, psnr + 1),
        "shares": {"smooth": 0.5, "edge": 0.3, "texture": 0.2},
        "images": {"a": psnr},
        "parameters": 7,
        "preset": "nano",
        "steps": 3,
        "batch_size": 2,
        "patch_size": 8,
        "photos": "p",
        "test": "t",
        "machine": "m",
        "torch": "2",
        "commit": "abc",
    }


def test_differences_are_paired_by_seed() -> None:
    rows = [row("off", 0, 20.0), row("film", 0, 20.5), row("off", 1, 30.0), row("film", 1, 30.3), row("off", 2, 40.0)]
    lines = list(ablation.table(rows, {"off": 1.25}))
    assert "| off | 3 | 30.000 ± 10.000 | 31.000 ± 10.000 | 31.000 ± 10.000 | 31.000 ± 10.000 | 7 | 1.2 |" in lines
    # The spread over seeds cancels: mean of 0.5 and 0.3, standard error 0.1414 / sqrt(2).
    assert "| film | +0.400 ± 0.100 | +0.400 ± 0.100 | +0.400 ± 0.100 | +0.400 ± 0.100 | [+0.500, +0.300] |" in lines


def test_one_command_trains_scores_and_resumes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.ablation_score.ROUNDS", 1)
    monkeypatch.setattr("bench.ablation_score.COST_SIZE", (8, 8))
    words = ["--photos", str(photos), "--test", str(photos), "--seeds", "1", "--batch", "1", "--patch", "8"]
    words += ["--out", str(tmp_path / "out")]
    ablation.main([*words, "--steps", "2"])
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [(r["variant"], r["seed"], r["steps"]) for r in rows] == [
        (v, 0, 2) for v in ("off", "film", "steer", "both")
    ]
    assert all({"commit", "machine", "seconds"} <= r.keys() for r in rows)
    off, film, steer, both = (r["parameters"] for r in rows)
    assert film > off < steer
    assert both - off == film - off + steer - off
    assert (tmp_path / "out" / "table.md").read_text() in capsys.readouterr().out

    def no_training(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was repeated")

    monkeypatch.setattr(ablation, "train", no_training)
    ablation.main([*words, "--steps", "2"])
    again = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert again == rows
    with pytest.raises(SystemExit, match="other settings"):
        ablation.main([*words, "--steps", "3"])


def test_variants_of_a_seed_start_alike(photos: Path, tmp_path: Path) -> None:
    words = ["--photos", str(photos), "--test", str(photos), "--out", str(tmp_path)]
    args = ablation._parser().parse_args(words)
    configs = [ablation._config(args, variant, seed) for seed in range(2) for variant in ablation.VARIANTS]
    assert len({config.load_from for config in configs[:4]}) == 1
    assert configs[0].load_from != configs[4].load_from
    assert [config.training.seed for config in configs] == [0] * 4 + [1] * 4
    assert [config.network_g.arguments["film"] for config in configs[:4]] == [False, True, False, True]
    assert [config.network_g.arguments["steer"] for config in configs[:4]] == [False, False, True, True]
