"""The loop with the networks, losses and photographs of the engine, and on the devices that are there."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sr_engine.config.load import load_config
from sr_engine.models.files import load_model, save_model
from sr_engine.models.generator import Generator
from sr_engine.train import run
from sr_engine.train.distributed import World
from sr_engine.train.session import Session
from sr_engine.train.steps import Pair

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = (
    "network_g.preset=nano",
    "training.total_iter=6",
    "training.batch_size=2",
    "training.patch_size=12",
    "training.scheduler.warmup_iter=0",
    "logging.print_every=1",
)


def _rows(output: Path) -> list[dict]:
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == "train"]


def _losses(output: Path) -> list[dict]:
    return [row["losses"] for row in _rows(output)]


def test_the_gan_configuration_runs_end_to_end_on_the_demo_set(tmp_path, pictures, quiet):
    without_pictures = "datasets.train={type: demo}"
    assert without_pictures in (CONFIGS / "x4_gan.yml").read_text(encoding="utf-8"), "its head says how"
    save_model(tmp_path / "start.safetensors", Generator(scale=4, preset="nano"))
    gan = (
        without_pictures,
        f"load_from={tmp_path / 'start.safetensors'}",
        "network_d.width=8",
        "training.net_d_init_iters=1",
        "losses.gan.loss_weight={start_iter: 3, final_weight: 0.1, ramp: linear}",
        "losses.feature_matching.loss_weight={start_iter: 2, final_weight: 0.5, ramp: linear}",
        f"datasets.val={{type: folder, path: '{pictures}'}}",  # smaller than those of the demo set
    )
    config = load_config(CONFIGS / "x4_gan.yml", [*SMALL, *gan])
    run(config, output=tmp_path, device="cpu", console=quiet)
    scheduled = {"feature_matching", "gan", "d_loss"}
    rows = _rows(tmp_path)
    assert [set(row["losses"]) & scheduled for row in rows] == [
        set(),
        set(),
        {"d_loss"},
        {"d_loss", "feature_matching"},
        *2 * [{"d_loss", "feature_matching", "gan"}],
    ]
    expected = {"feature_matching": {4: 0.125, 5: 0.25, 6: 0.375}, "gan": {5: 0.1 / 3, 6: 0.2 / 3}}
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name, weights in expected.items():
        assert {row["iter"]: row["weights"][name] for row in rows if name in row["weights"]} == pytest.approx(weights)
        drawn = {event.step: event.value for event in events.Scalars(f"weight/{name}")}
        assert drawn == pytest.approx(weights)
    assert load_model(tmp_path)(torch.rand(1, 3, 9, 7)).shape == (1, 3, 36, 28)


def test_the_gan_configuration_starts_from_the_model_that_comes_along():
    config = load_config(CONFIGS / "x4_gan.yml")
    assert config.load_from == "tiny-x4"
    assert {"pixel", "fft", "consistency", "feature_matching", "gan"} == set(config.losses)
    total = config.training.total_iter
    for name in ("feature_matching", "gan"):
        weights = [config.losses[name].loss_weight.at(it, total) for it in (0, total // 20, total // 2, total - 1)]
        assert weights[:2] == [0, 0]
        assert 0 < weights[2] <= weights[3] == config.losses[name].loss_weight.final_weight


def test_the_generator_learns(make_config):
    config = make_config("network_g={type: generator, preset: nano}", "training.optim_g.lr=2e-3")
    session = Session(config, World(torch.device("cpu")))
    cells = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    hr = F.interpolate(cells, size=(24, 24), mode="nearest")
    pair = Pair(F.avg_pool2d(hr, 2), hr)
    steps = session.steps
    values = [steps.run(pair, it, lr_g=2e-3, lr_d=0, next_pair=lambda: pair).values["pixel"] for it in range(25)]
    assert values[-1] < 0.5 * values[0]


@pytest.mark.slow
def test_a_compiled_run_agrees_with_an_eager_one(tmp_path, make_config, quiet):
    for compiled in ("false", "true"):
        options = (f"training.compile={compiled}", "network_g={type: generator, preset: nano}", "logging.print_every=1")
        run(make_config(*options, gan=True), output=tmp_path / compiled, device="cpu", console=quiet)
    for eager, compiled in zip(_losses(tmp_path / "false"), _losses(tmp_path / "true"), strict=True):
        assert compiled == pytest.approx(eager, rel=2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_on_the_gpu_agrees_with_one_on_the_cpu(tmp_path, make_config, precision, quiet: Console):
    options = ("network_g={type: generator, preset: nano}", "logging.print_every=1", "training.total_iter=6")
    for device, precision_there in (("cpu", "fp32"), ("cuda", precision)):
        config = make_config(*options, f"training.precision={precision_there}", gan=True)
        run(config, output=tmp_path / device, device=device, console=quiet)
    for cpu, cuda in zip(_losses(tmp_path / "cpu")[:3], _losses(tmp_path / "cuda")[:3], strict=True):
        assert cuda["pixel"] == pytest.approx(cpu["pixel"], rel=2e-2)
    assert all(torch.tensor(list(losses.values())).isfinite().all() for losses in _losses(tmp_path / "cuda"))
