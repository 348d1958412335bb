"""Losses: the same value, or no equal; weights that move are the same at every iteration."""

import random
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from sr_engine.config.schema import WeightSchedule
from sr_engine.convert.schedules import weight
from sr_engine.losses.gan import GANLoss
from sr_engine.losses.pixel import charbonnier
from tests.convert.samples import ABSENT, Change, outcome, reason

PIXEL, PERCEPTUAL, GAN = "train.pixel_opt", "train.perceptual_opt", "train.gan_opt"


@pytest.mark.parametrize("kind", ["L1Loss", "MSELoss", "CharbonnierLoss"])
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_only_the_mean_has_an_equal(change: Change, kind: str, reduction: str) -> None:
    t = change("basicsr_realesrgan", {f"{PIXEL}.type": kind, f"{PIXEL}.reduction": reduction})
    assert "losses here are means" in reason(t, f"{PIXEL}.type")
    assert "pixel" not in t.out["losses"]


def test_eps_of_charbonnier_is_squared_here(change: Change) -> None:
    t = change("basicsr_swinir", {f"{PIXEL}.eps": 4e-6})
    eps = t.out["losses"]["pixel"]["eps"]
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    assert charbonnier(a, b, eps).item() == pytest.approx(torch.sqrt((a - b) ** 2 + 4e-6).mean().item())
    t = change("basicsr_swinir", {f"{PIXEL}.eps": ABSENT})
    assert t.out["losses"]["pixel"]["eps"] == pytest.approx(1e-6)
    assert any(row.target == "losses.pixel.eps" and row.outcome == "set" for row in t.table())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vgg_type", "vgg16"),
        ("use_input_norm", False),
        ("range_norm", True),
        ("style_weight", 10.0),
        ("criterion", "fro"),
        ("layer_weights", {"relu5_4": 1}),
        ("something_new", 3),
    ],
)
def test_a_perceptual_loss_that_is_another_one(change: Change, key: str, value: Any) -> None:
    t = change("basicsr_realesrgan", {f"{PERCEPTUAL}.{key}": value})
    why = reason(t, f"{PERCEPTUAL}.type")
    assert key in why or "layers" in why
    assert "perceptual" not in t.out["losses"]
    near = change("basicsr_realesrgan", {f"{PERCEPTUAL}.{key}": value}, nearest=True)
    assert outcome(near, f"{PERCEPTUAL}.type") == "nearest"
    assert near.out["losses"]["perceptual"]["loss_weight"] == 1.0


def test_mse_criterion_and_perceptual_weight(change: Change) -> None:
    t = change("basicsr_realesrgan", {f"{PERCEPTUAL}.criterion": "mse", f"{PERCEPTUAL}.perceptual_weight": 0.25})
    assert t.out["losses"]["perceptual"]["criterion"] == "l2"
    assert t.out["losses"]["perceptual"]["loss_weight"] == 0.25


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({f"{GAN}.gan_type": "wgan"}, "gan_type wgan"),
        ({f"{GAN}.real_label_val": 0.9}, "real_label_val"),
        ({"model_type": "ESRGANModel"}, "relativistic average"),
        ({"network_d.type": "VGGStyleDiscriminator"}, "its discriminator has no equal"),
        ({"network_d.skip_connection": False}, "its discriminator has no equal"),
        ({"network_d": None}, "there is no network_d"),
    ],
)
def test_a_gan_without_an_equal_takes_its_discriminator_along(change: Change, values: dict[str, Any], why: str) -> None:
    t = change("basicsr_realesrgan", values)
    assert why in reason(t, f"{GAN}.type")
    assert "gan" not in t.out["losses"]
    assert "network_d" not in t.out
    assert "optim_d" not in t.out["training"]
    assert outcome(t, "train.optim_d.lr") == "no equal"


@pytest.mark.parametrize(("kind", "ours"), [("wgan_softplus", "vanilla"), ("lsgan", "lsgan"), ("hinge", "hinge")])
def test_gan_types_of_the_same_formula(change: Change, kind: str, ours: str) -> None:
    t = change("basicsr_realesrgan", {f"{GAN}.gan_type": kind})
    assert t.out["losses"]["gan"]["gan_type"] == ours
    real, fake = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    theirs = {
        "wgan_softplus": (F.softplus(-fake).mean(), F.softplus(-real).mean() + F.softplus(fake).mean()),
        "lsgan": (F.mse_loss(fake, torch.ones_like(fake)), ((real - 1) ** 2).mean() + (fake**2).mean()),
        "hinge": (-fake.mean(), F.relu(1 - real).mean() + F.relu(1 + fake).mean()),
    }[kind]
    gan = GANLoss(gan_type=ours)  # pyright: ignore[reportArgumentType]
    assert gan.generator(fake).item() == pytest.approx(theirs[0].item())
    assert gan.discriminator(real, fake).item() == pytest.approx(theirs[1].item())


def test_a_weight_of_0_is_left_out(change: Change) -> None:
    t = change("basicsr_realesrgan", {f"{GAN}.loss_weight": 0})
    assert outcome(t, f"{GAN}.type") == "kept"
    assert "gan" not in t.out["losses"]
    assert "network_d" not in t.out


def test_a_file_none_of_whose_losses_has_an_equal(change: Change) -> None:
    t = change("basicsr_swinir", {f"{PIXEL}.type": "WeightedTVLoss"})
    assert t.out["losses"] == {"pixel": {"type": "l1", "loss_weight": 1.0}}
    assert any(row.outcome == "set" and row.target == "losses.pixel" for row in t.table())


def test_losses_of_one_type_have_different_names(change: Change) -> None:
    t = change("redux_otf_gan", {"train.losses.1": {"type": "CharbonnierLoss", "loss_weight": 0.5}})
    assert {"charbonnier", "charbonnier_2"} <= set(t.out["losses"])


def documented(entry: dict[str, Any], it: int) -> float:
    """The weight as the fork describes it."""
    base = entry["loss_weight"]
    start = entry.get("start_iter", 0)
    reached, target = entry.get("target_iter", start), entry.get("target_weight", base)
    if it < start or it >= entry.get("disable_after", 10**9):
        return 0.0
    if reached <= start:
        return target
    done = min(1.0, (it - start) / (reached - start))
    kind = entry.get("schedule_type", "linear")
    if kind == "step":
        return target if it >= reached else base
    eased = 0.5 - 0.5 * torch.cos(torch.tensor(torch.pi * done)).item() if kind == "cosine" else done
    return base + (target - base) * eased


def test_schedules_without_a_difference_are_the_same_everywhere() -> None:
    draw, total, equal = random.Random(0), 40, 0
    for _ in range(600):
        entry: dict[str, Any] = {"loss_weight": draw.choice([0.0, 0.1, 1.0])}
        if draw.random() < 0.5:
            entry["start_iter"] = draw.choice([0, 5, 12])
        if draw.random() < 0.6:
            entry["target_iter"] = entry.get("start_iter", 0) + draw.choice([0, 8, 20])
        if draw.random() < 0.6:
            entry["target_weight"] = draw.choice([0.0, 0.3, 1.0])
        if draw.random() < 0.3:
            entry["disable_after"] = draw.choice([25, 40, 90])
        if draw.random() < 0.6:
            entry["schedule_type"] = draw.choice(["linear", "cosine", "step"])
        ours, difference = weight(entry, "loss_weight", total)
        schedule = WeightSchedule.model_validate(ours)
        same = all(schedule.at(it, total) == pytest.approx(documented(entry, it), abs=1e-6) for it in range(total))
        if difference is None:
            assert same, (entry, ours)
            equal += 1
    assert equal > 300


def test_the_usual_schedules(change: Change) -> None:
    t = change("phhofm_schedules")
    assert t.out["losses"]["gan"]["loss_weight"] == {
        "start_iter": 10000,
        "initial_weight": 0.0,
        "final_weight": 0.1,
        "ramp": "linear",
        "ramp_iters": 20000,
    }
    assert t.out["losses"]["charbonnier"]["loss_weight"]["final_weight"] == 0.0
    assert "jumps to 0.1" in reason(t, "train.losses.3.type")
    assert "l2" not in t.out["losses"]
    near = change("phhofm_schedules", nearest=True)
    assert outcome(near, "train.losses.3.start_iter") == "nearest"
    assert near.out["losses"]["feature_matching"]["eps"] == pytest.approx(1e-3)
