"""Stages at several scales in one run."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sr_engine.config import registry
from sr_engine.config.load import dump_config, load_config, parse_config
from sr_engine.errors import ConfigError, DataError
from sr_engine.models.files import load_model, read_model_file
from sr_engine.models.transfer import transfer_weights
from sr_engine.train import run
from sr_engine.train.checkpoint import load_checkpoint
from sr_engine.train.distributed import World
from sr_engine.train.session import Session
from sr_engine.train.stages import stages, with_lengths
from tests.train.staged import CPU, NANO, STAGES, assert_equal, rows


def test_one_log_tells_the_stages(tmp_path, make_config, quiet):
    config = make_config(*STAGES, "training.validate_every=3", "logging.print_every=3")
    run(config, output=tmp_path, device="cpu", console=quiet)
    found = rows(tmp_path)
    train = [row for row in found if row["event"] == "train"]
    assert [(row["iter"], row["stage"], row["scale"]) for row in train] == [(3, 1, 2), (4, 1, 2), (6, 2, 4), (7, 2, 4)]
    # cosine from 1e-3 over 4 iterations, of which the last one before a report is told; then from 5e-4 over 3, one of
    # which rises
    assert [row["lr"] for row in train] == pytest.approx([5.005e-4, 1.473e-4, 5e-4, 2.505e-4], rel=1e-3)
    scores = [row for row in found if row["event"] == "validation"]
    assert [(row["iter"], row["scale"]) for row in scores] == [(3, 2), (4, 2), (6, 4), (7, 4)]
    assert scores[2]["best"]  # the best of its own stage, though x4 scores less than x2
    assert scores[2]["psnr_y"] < scores[1]["psnr_y"]
    assert load_config(tmp_path / "config.yml") == config


def test_the_model_is_of_the_last_scale_and_tells_its_stages(tmp_path, make_config, quiet):
    run(make_config(*STAGES), output=tmp_path, device="cpu", console=quiet)
    assert load_model(tmp_path)(torch.rand(1, 3, 5, 7)).shape == (1, 3, 20, 28)
    for name in ("model.safetensors", "best.safetensors"):
        training = read_model_file(tmp_path / name).spec.training
        assert [stage["scale"] for stage in training["curriculum"]] == [2, 4]
        assert [stage["iters"] for stage in training["curriculum"]] == [4, 3]
        assert training["iterations"] == 7
        assert training["batch_size"] == 2
        assert training["optim_g"]["lr"] == 5e-4


def test_a_stage_begins_as_a_run_with_load_from(tmp_path, make_config, quiet):
    overrides = ("training.total_iter=4", "training.patch_size=10", "logging.print_every=2")
    run(make_config(NANO, *overrides), output=tmp_path / "x2", device="cpu", console=quiet)
    config = make_config(*STAGES, "training.checkpoint_every=1", "training.keep_last=9")
    run(config, output=tmp_path / "both", device="cpu", console=quiet)
    x2, boundary = (load_checkpoint(tmp_path / name / "checkpoints/00000004.ckpt") for name in ("x2", "both"))
    assert_equal(boundary["generator"], x2["generator"])
    assert_equal(boundary["ema"], x2["ema"])
    assert any(not torch.equal(a, b) for a, b in zip(*(_weights(x2[k]) for k in ("generator", "ema")), strict=True))

    second = Session(make_config(NANO, "scale=4", f"load_from={tmp_path / 'x2'}"), CPU)
    stage = Session(config, CPU, boundary)
    assert stage.config.scale == 4
    assert_equal(stage.net_g.state_dict(), second.net_g.state_dict())
    assert_equal(stage.steps.ema.state_dict(), second.steps.ema.state_dict())
    assert stage.transferred is not None
    assert stage.transferred.resized == ["tail.weight", "tail.bias"]
    assert stage.transferred.missing == stage.transferred.unused == []
    assert stage.steps.generator.optimizer.state == {}
    assert stage.net_g.state_dict()["tail.weight"].abs().max() > 0


def _weights(state: dict[str, Any]) -> list[Tensor]:
    return list(state["net"].values())


def test_load_from_is_for_the_first_stage(tmp_path, make_config, quiet):
    run(make_config(NANO, "scale=3", "training.total_iter=2"), output=tmp_path / "x3", device="cpu", console=quiet)
    config = make_config(*STAGES, f"load_from={tmp_path / 'x3'}", "training.checkpoint_every=1", "training.keep_last=9")
    assert stages(config)[1].config.load_from is None
    session = Session(config, CPU)
    expected = Session(make_config(NANO), CPU).net_g
    transfer_weights(expected, tmp_path / "x3")
    assert_equal(session.net_g.state_dict(), expected.state_dict())
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    assert read_model_file(tmp_path / "run").spec.training["started_from"] == "x3"
    boundary = load_checkpoint(tmp_path / "run/checkpoints/00000004.ckpt")
    body = "body.0.convs.0.weight"
    assert torch.equal(Session(config, CPU, boundary).net_g.state_dict()[body], boundary["ema"]["net"][body])


def test_the_discriminator_goes_on(tmp_path, make_config, quiet):
    overrides = ("training.checkpoint_every=1", "training.keep_last=9", "training.balance={every: 2}")
    config = make_config(*STAGES, *overrides, gan=True)
    run(config, output=tmp_path, device="cpu", console=quiet)
    boundary = load_checkpoint(tmp_path / "checkpoints/00000004.ckpt")
    session = Session(config, CPU, boundary)
    assert session.steps.discriminator is not None
    goes_on = session.steps.discriminator.state_dict()
    assert_equal(goes_on["net"], boundary["discriminator"]["net"])
    assert_equal(goes_on["optimizer"]["state"], boundary["discriminator"]["optimizer"]["state"])
    assert goes_on["optimizer"]["state"]
    assert session.steps.d_trained == boundary["d_trained"] > 0
    assert (session.iteration, session.batches) == (4, boundary["batches"])
    # Schedules of losses go on: at the end of the first stage the adversarial loss begins.
    train = [row for row in rows(tmp_path) if row["event"] == "train"]
    assert [("gan" in row["losses"]) for row in train] == [False, False, True, True]
    assert session.bank.weights(6)["pixel"] == 1
    assert session.bank.configs["gan"].loss_weight.at(6, session.bank.total_iter) == pytest.approx(0.1 * 2 / 3)


def test_equal_scales_with_other_patches(tmp_path, make_config, quiet):
    curriculum = "training.curriculum=[{scale: 3, iters: 2}, {scale: 3, epochs: 2, patch_size: 12, batch_size: 4}]"
    config = make_config("scale=3", "training.total_iter=0", "training.patch_size=8", curriculum)
    assert config.training.total_iter == 0
    run(config, output=tmp_path, device="cpu", console=quiet)
    assert rows(tmp_path)[-1]["iter"] == 2 + 3  # two epochs of five pictures in batches of four
    resolved = load_config(tmp_path / "config.yml")
    assert resolved == with_lengths(config)
    assert [stage.config.training.patch_size for stage in stages(resolved)] == [8, 12]


def test_lengths_known_only_by_the_pictures_are_checked_too(make_config):
    curriculum = "training.curriculum=[{scale: 2, epochs: 1}, {scale: 2, iters: 2}]"
    with pytest.raises(ConfigError, match=r"training.total_iter: expected 4, the sum of training.curriculum.*got 5"):
        with_lengths(make_config("training.total_iter=5", curriculum))
    late = "losses.fft={loss_weight: {start_iter: 4, final_weight: 1}}"
    with pytest.raises(ConfigError, match=r"fft.loss_weight.start_iter: expected less than training.total_iter \(4\)"):
        with_lengths(make_config("training.total_iter=0", late, curriculum))


def test_a_later_stage_that_cannot_be_is_found_at_once(tmp_path, make_config, quiet):
    for override, error, message in (
        ("training.curriculum.1.patch_size=30", DataError, "expected at least 120x120 pixels"),
        ("training.curriculum.1.optim_g.betas=[2.0, 2.0]", ConfigError, "AdamW cannot be made"),
        ("training.curriculum.1.batch_size=3", ConfigError, "divided among 2 processes"),
    ):
        if "processes" in message:
            from sr_engine.train.trainer import Run

            with pytest.raises(error, match=message):
                Run(make_config(*STAGES, override), tmp_path, "auto", World(torch.device("cpu"), 0, 2), quiet)
        else:
            with pytest.raises(error, match=message):
                run(make_config(*STAGES, override), output=tmp_path / "run", device="cpu", console=quiet)
        assert not (tmp_path / "run/log.jsonl").exists()


def test_dry_run_shows_every_stage(tmp_path, make_config, quiet):
    run(make_config(*STAGES), output=tmp_path, dry_run=True, device="cpu", console=quiet)
    text = (tmp_path / "plan/plan.txt").read_text()
    assert "tiny stage 1 of 2, from iteration 0: x2, 4 iterations of 4 patches of 10x10 pixels" in text
    assert "tiny stage 2 of 2, from iteration 4: x4, 3 iterations of 2 patches of 8x8 pixels" in text
    assert "AdamW from 0.0005" in text
    assert text.count("memory: about") == 2
    assert load_config(tmp_path / "plan/config.yml") == make_config(*STAGES)


def test_a_network_whose_weights_have_other_names_keeps_what_fits(tmp_path, make_config, quiet):
    config = make_config(*STAGES, "network_g={type: test_plain}", "training.checkpoint_every=1", "training.keep_last=9")
    run(config, output=tmp_path, device="cpu", console=quiet)
    boundary = load_checkpoint(tmp_path / "checkpoints/00000004.ckpt")
    session = Session(config, CPU, boundary)
    assert session.transferred is not None
    assert session.transferred.loaded == ["first.weight", "first.bias"]
    assert session.transferred.missing == ["last.weight", "last.bias"]


class OneScale(nn.Module):
    """What a plugin may define: it enlarges by 2 and by nothing else."""

    def __init__(self, *, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3)


def test_a_network_without_a_scale_is_refused(make_config, monkeypatch):
    monkeypatch.setitem(registry._entries["network_g"], "test_one_scale", OneScale)
    message = "expected one scale in all stages, since networks of type test_one_scale cannot change theirs, got 2, 4"
    with pytest.raises(ConfigError, match=f"^command line: training.curriculum: {message}$"):
        make_config(*STAGES, "network_g={type: test_one_scale}")
    make_config(*STAGES, "network_g={type: test_one_scale}", "training.curriculum.0.scale=4")


def test_it_survives_a_dump(make_config):
    config = make_config(*STAGES)
    assert parse_config(dump_config(config)) == config


def test_a_network_of_another_project_changes_patches_but_not_scale(tmp_path, make_config, quiet):
    pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")
    network = (
        "network_g={type: spandrel, arch: SwinIR, upscale: 2, img_size: 8, window_size: 4, embed_dim: 12, depths: "
    )
    network += "[1], num_heads: [2], mlp_ratio: 2, upsampler: pixelshuffledirect, resi_connection: 1conv}"
    curriculum = "training.curriculum=[{scale: 2, iters: 2, patch_size: 8}, {scale: 2, iters: 1, patch_size: 12}]"
    config = make_config(
        network, "training.total_iter=0", curriculum, "training.checkpoint_every=1", "datasets.val=null"
    )
    run(config, output=tmp_path, device="cpu", console=quiet)
    boundary = load_checkpoint(tmp_path / "checkpoints/00000002.ckpt")
    session = Session(config, CPU, boundary)
    assert session.config.training.patch_size == 12
    assert_equal(session.net_g.state_dict(), boundary["ema"]["net"])
    with pytest.raises(ConfigError, match="networks of type spandrel cannot change theirs, got 3, 2"):
        make_config(network, "training.total_iter=0", curriculum, "training.curriculum.0.scale=3")


def test_scale_1_may_come_first(make_config, tmp_path, quiet):
    config = make_config(*STAGES, "training.curriculum.0.scale=1", "training.checkpoint_every=1")
    run(config, output=tmp_path, device="cpu", console=quiet)
    session = Session(config, CPU, load_checkpoint(tmp_path / "checkpoints/00000005.ckpt"))
    assert (session.stage.number, session.config.scale, session.transferred) == (2, 4, None)


def test_stages_of_the_scale_of_the_run_learn_from_its_teacher(tmp_path, make_config, teacher, quiet):
    config = make_config(
        NANO,
        "scale=2",
        "training.total_iter=0",
        "training.patch_size=8",
        "logging.print_every=2",
        "training.curriculum=[{scale: 4, iters: 2, patch_size: 6}, {scale: 2, iters: 2}]",
        f"distill={{teacher: {teacher}, cache: uint8}}",
    )
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    train = [row for row in rows(tmp_path / "run") if row["event"] == "train"]
    assert [sorted(row["losses"]) for row in train] == [["pixel"], ["distill", "pixel"]]
    assert (
        read_model_file(tmp_path / "run/model.safetensors").spec.training["distill"]["teacher"]["licence"] == "CC0-1.0"
    )
