"""Whole files through the command line: every key is listed once, and the result is a valid configuration."""

import os
import random
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sr_engine.cli.main import main
from sr_engine.cli.registrations import load_all
from sr_engine.config import yaml12
from sr_engine.config.load import load_config
from sr_engine.config.schema import Config
from sr_engine.convert.convert import read_options
from sr_engine.convert.translation import ConversionError
from tests.convert.samples import ABSENT, OPTIONS, SAMPLES, Change

ROOT = Path(__file__).parents[2]


def leaf_keys(value: Any, path: str = "") -> list[str]:
    """Every leaf of nested mappings and lists of mappings, written here once more."""
    if isinstance(value, dict) and value:
        return [key for name, item in value.items() for key in leaf_keys(item, f"{path}.{name}".lstrip("."))]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [key for index, item in enumerate(value) for key in leaf_keys(item, f"{path}.{index}")]
    return [path]


def load(path: Path) -> Config:
    """Check a result; without spandrel our generator is checked in the place of a community network."""
    load_all()
    if find_spec("spandrel") is None:
        value = yaml12.read(path).value
        value["network_g"] = {"type": "generator"}
        path = path.with_name("generator.yml")
        path.write_text(yaml12.dump(value), encoding="utf-8")
    return load_config(path)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("sample", SAMPLES)
def test_every_key_is_listed_once_and_the_result_is_valid(
    sample: str, nearest: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.yml"
    assert main(["convert", str(OPTIONS / sample), "-o", str(out), *(["--nearest"] if nearest else [])]) == 0
    printed = capsys.readouterr().out.splitlines()
    keys = leaf_keys(read_options(OPTIONS / sample)[0])
    rows = {key: [line for line in printed if line.split(" ")[0] == key] for key in keys}
    assert {key: len(lines) for key, lines in rows.items()} == dict.fromkeys(keys, 1)
    assert all(re.search(r"  (kept|renamed|nearest|no equal) ?", lines[0]) for lines in rows.values())
    assert "not known to this converter" not in "\n".join(printed)
    assert load(out).losses
    text = out.read_text(encoding="utf-8")
    lost = [key for key, lines in rows.items() if re.search(r"  no equal  ", lines[0])]
    assert lost
    assert all(f"#   {key} " in text for key in lost)


def test_values_of_basicsr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.yml"
    assert main(["convert", str(OPTIONS / "basicsr_swinir.yml"), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "basicsr_swinir.yml: BasicSR (recognised by model_type" in printed
    assert "training.patch_size: 192 -> 48 (in low-resolution pixels: 192 / 4)" in printed
    written = yaml12.read(out).value
    assert written["network_g"]["type"] == "spandrel"
    assert written["network_g"]["arch"] == "SwinIR"
    assert written["network_g"]["embed_dim"] == 180
    assert "upscale" not in written["network_g"]  # it is the scale of the configuration
    config = load(out)
    assert (config.training.patch_size, config.training.batch_size, config.training.validate_every) == (48, 32, 5000)
    assert config.training.scheduler.arguments["milestones"] == [150000, 240000, 280000]
    assert config.training.optim_g.arguments["lr"] == 2e-4
    assert config.training.grad_clip is None
    assert config.training.precision == "fp32"
    assert config.losses["pixel"].arguments["eps"] == pytest.approx(1e-3)
    assert config.datasets.train.arguments["filename_template"] == "{name}x4"
    assert config.datasets.train.arguments["hard_sampling"] == 0.0
    assert config.validation.save_images == 0
    assert written["load_from"] == "/weights/swinir_x2.pth"


def test_values_of_real_esrgan(tmp_path: Path) -> None:
    out = tmp_path / "x.yml"
    assert main(["convert", str(OPTIONS / "basicsr_realesrgan.yml"), "-o", str(out)]) == 0
    written = yaml12.read(out).value
    assert written["network_g"] == {
        "type": "spandrel",
        "arch": "ESRGAN",
        "num_filters": 64,
        "num_blocks": 16,
        "in_nc": 3,
        "out_nc": 3,
    }
    config = load(out)
    assert config.network_d is not None
    assert config.network_d.arguments == {"width": 48, "spectral_norm": True}
    assert config.losses["perceptual"].arguments["layers"]["conv5_4"] == 1
    assert config.losses["gan"].loss_weight.final_weight == 0.1
    assert config.training.net_d_init_iters == 100
    assert config.datasets.train.type == "list"
    assert config.datasets.train.arguments["degradation"]["jpeg_range"] == [40, 95]
    assert config.training.scheduler.type == "cosine"
    assert config.training.scheduler.arguments["min_lr"] == 1e-7


def test_values_of_neosr_and_trainner(tmp_path: Path) -> None:
    out = tmp_path / "x.yml"
    assert main(["convert", str(OPTIONS / "neosr_paired.toml"), "-o", str(out)]) == 0
    config = load(out)
    assert (config.training.total_iter, config.training.patch_size) == (200000, 64)
    assert (config.training.batch_size, config.training.accumulate, config.training.precision) == (16, 2, "bf16")
    assert config.datasets.train.arguments["hr"] == "D:\\photos\\gt\\"
    assert config.training.scheduler.arguments["warmup_iter"] == 1000
    assert config.validation.tile == 200
    assert list(config.losses) == ["pixel"]
    assert main(["convert", str(OPTIONS / "redux_otf_gan.yml"), "-o", str(out), "--overwrite"]) == 0
    config = load(out)
    assert config.name == "4x_SPAN_OTF"
    assert (config.training.batch_size, config.training.precision, config.training.compile) == (32, "fp16", True)
    assert config.training.grad_clip == 1.0
    assert config.datasets.train.arguments["path"] == ["/data/photos", "/data/scans"]
    assert config.datasets.train.arguments["degradation"]["second_blur_prob"] == 0.3
    assert config.losses["charbonnier"].arguments["eps"] == pytest.approx(1e-6)
    assert config.validation.tile == "off"
    assert set(config.losses) == {"charbonnier", "gan"}


def test_an_existing_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.yml"
    out.write_text("mine", encoding="utf-8")
    arguments = ["convert", str(OPTIONS / "basicsr_swinir.yml"), "-o", str(out)]
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert out.read_text(encoding="utf-8") != "mine"


def test_without_output_only_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(OPTIONS / "basicsr_swinir.yml")]) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_type: VideoRecurrentModel\nscale: 4", "model_type: VideoRecurrentModel cannot be translated"),
        ("model_type: GFPGANModel\nscale: 1", "model_type: GFPGANModel cannot be translated"),
        ("model_type: SRModel\nscale: 8", "scale: expected 1, 2, 3 or 4, got 8"),
        ("model_type: SRModel\nscale: 4", "train.total_iter: expected the length of the training"),
        (
            "model_type: SRModel\nscale: 4\ntrain: {total_iter: 9}\ndatasets: {train: {type: REDSDataset}}",
            "datasets.train.type: REDSDataset cannot be translated",
        ),
        (
            "model_type: SRModel\nscale: 4\ntrain: {total_iter: 9}\ndatasets: {train: {type: PairedImageDataset}}",
            "datasets.train.dataroot_gt: expected a folder",
        ),
        ("scale: 4", "not recognised"),
    ],
)
def test_what_cannot_be_translated_is_one_error(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "options.yml", tmp_path / "x.yml"
    path.write_text(text, encoding="utf-8")
    assert main(["convert", str(path), "-o", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not out.exists()


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "absent.yml")]) == 2
    broken = tmp_path / "broken.toml"
    broken.write_text("a = = 1", encoding="utf-8")
    assert main(["convert", str(broken)]) == 2
    assert "expected TOML" in capsys.readouterr().err


def test_from_says_the_dialect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(OPTIONS / "basicsr_swinir.yml"), "--from", "trainner"]) == 0
    assert "traiNNer-redux (as --from says)" in capsys.readouterr().out


def test_neither_torch_nor_spandrel_is_imported() -> None:
    code = (
        "import sys; from sr_engine.cli.main import main\n"
        f"main(['convert', {str(OPTIONS / 'redux_otf_gan.yml')!r}])\n"
        "print([name for name in ('torch', 'spandrel', 'numpy') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("sample", SAMPLES)
def test_odd_values_are_listed_too(sample: str, change: Change) -> None:
    draw = random.Random(sample)
    tree, _ = read_options(OPTIONS / sample)
    keys = leaf_keys(tree)
    values = [None, "text", -1, 3, 2.5, True, [], [1, 2], {}, {"a": 1}, [{"type": "l1loss"}], "5e3", ABSENT]
    for _ in range(8):
        key, value = draw.choice(keys), draw.choice(values)
        try:
            t = change(Path(sample).stem, {key: value}, nearest=draw.random() < 0.5)
        except ConversionError:
            continue
        assert sorted(row.source for row in t.table() if row.source) == sorted(t.leaves), (key, value)
