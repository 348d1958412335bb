import math
import warnings

import pytest
import torch
from torch import nn

from sr_engine.config import registry
from sr_engine.config.schema import LossConfig, WeightSchedule
from sr_engine.errors import ConfigError, TrainingError
from sr_engine.losses import bank as bank_module
from sr_engine.losses.bank import LossBank
from sr_engine.losses.finite import NonFiniteLossError
from sr_engine.losses.plan import render_plan

RAMP = {"start_iter": 100, "final_weight": 0.4, "ramp": "linear", "ramp_iters": 200}


def config(name, weight, **arguments):
    return LossConfig(type=name, arguments=arguments, loss_weight=WeightSchedule.model_validate(weight))


def make_bank(**losses: LossConfig) -> LossBank:
    return LossBank(losses, total_iter=1000)


@pytest.fixture
def counted(monkeypatch):
    """A loss that counts its calls and returns what it is told to."""

    class Counted(nn.Module):
        needs = frozenset({"real"})
        calls = 0

        def __init__(self, *, value: float = 1.0) -> None:
            super().__init__()
            self.value = value

        def forward(self, inputs):
            Counted.calls += 1
            return inputs.sr.mean() * 0 + self.value

    monkeypatch.setitem(registry._entries["loss"], "counted", Counted)
    return Counted


def test_total_is_the_weighted_sum(scene):
    inputs = scene.inputs()
    bank = make_bank(pixel=config("charbonnier", 2.0), l2=config("l2", RAMP))
    report = bank(inputs, 200)
    values = {name: registry.build("loss", name)(inputs).item() for name in ("charbonnier", "l2")}
    assert report.weights == {"pixel": 2.0, "l2": pytest.approx(0.2)}
    assert report.values["pixel"].item() == values["charbonnier"]
    assert report.values["l2"].item() == values["l2"]
    assert report.total.item() == pytest.approx(2 * values["charbonnier"] + 0.2 * values["l2"], rel=1e-6)
    assert report.total.dtype == torch.float32
    assert report.total.requires_grad
    assert not any(v.requires_grad for v in report.values.values())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (0.7, {0: 0.7, 500: 0.7, 999: 0.7}),
        (RAMP, {0: 0, 99: 0, 100: 0, 101: 0.002, 200: 0.2, 299: 0.398, 300: 0.4, 999: 0.4}),
        ({**RAMP, "ramp": "cosine"}, {100: 0, 150: 0.4 * (0.5 - 0.5 * math.cos(math.pi / 4)), 200: 0.2, 300: 0.4}),
        ({"start_iter": 100, "final_weight": 0.4, "ramp": "step"}, {99: 0, 100: 0.4}),
        ({"start_iter": 0, "final_weight": 1.0, "ramp": "linear"}, {0: 0, 250: 0.25, 999: 0.999}),
        ({"initial_weight": 1.0, "final_weight": 0.0, "ramp_iters": 10}, {0: 1.0, 5: 0.5, 10: 0.0, 999: 0.0}),
    ],
)
def test_weights_follow_their_schedule_exactly(schedule, expected):
    bank = make_bank(fm=config("l1", schedule))
    assert {it: bank.weight("fm", it) for it in expected} == {it: pytest.approx(w) for it, w in expected.items()}
    assert {it: bank.active(it) for it in expected} == {it: ["fm"] if w else [] for it, w in expected.items()}


def test_a_loss_without_weight_costs_nothing(scene, counted):
    bank = make_bank(pixel=config("l1", 1.0), late=config("counted", RAMP), never=config("counted", 0.0))
    for it in (0, 100):
        report = bank(scene.inputs(bank.needs(it)), it)
        assert set(report.values) == set(report.weights) == {"pixel"}
        assert bank.needs(it) == frozenset()
    assert counted.calls == 0
    assert scene.net_d.passes == []  # nor does the discriminator run
    assert bank.needs(101) == {"real"}
    bank(scene.inputs(bank.needs(101)), 101)
    assert counted.calls == 1


def test_gan_and_feature_matching_share_one_pass(scene):
    bank = make_bank(gan=config("gan", 0.1), fm=config("feature_matching", 1.0))
    report = bank(scene.inputs(bank.needs(0)), 0)
    assert len(scene.net_d.passes) == 2  # one on the output, one on the original
    assert list(report.values) == ["gan", "fm"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_named(bad, scene, counted):
    bank = make_bank(pixel=config("l1", 1.0), odd=config("counted", 1.0, value=bad), fft=config("fft", 1.0))
    with pytest.raises(NonFiniteLossError, match=rf"^loss odd is {bad}:") as caught:
        bank(scene.inputs(), 0)
    assert caught.value.names == ["odd"]


def test_numbers_come_to_the_host_at_once(scene, monkeypatch):
    calls = []
    monkeypatch.setattr(
        bank_module, "fetch", lambda scalars: calls.append(len(scalars)) or [s.detach() for s in scalars]
    )
    make_bank(a=config("l1", 1.0), b=config("l2", 1.0), c=config("fft", 1.0))(scene.inputs(), 0)
    assert calls == [3]


@pytest.mark.gpu
def test_one_wait_for_the_gpu_a_step(scene):
    net_g, net_d = scene.net_g.cuda(), scene.net_d.cuda()
    moved = scene._replace(net_g=net_g, net_d=net_d, lr=scene.lr.cuda(), hr=scene.hr.cuda())
    names = ("charbonnier", "fft", "ms_ssim", "gan", "feature_matching")
    bank = make_bank(**{name: config(name, 1.0) for name in names})
    bank(moved.inputs(bank.needs(0)), 0)  # warm-up: cuFFT plans
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        report = bank(moved.inputs(bank.needs(1)), 1)
        report.total.backward()
        assert all(math.isfinite(v.item()) for v in report.values.values())
    torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in waits if "synchronizing CUDA operation" in str(w.message)]) == 1


def test_no_active_loss_is_an_error(scene):
    with pytest.raises(TrainingError, match="no loss has a weight at iteration 5"):
        make_bank(fm=config("l1", RAMP))(scene.inputs(), 5)


def test_feature_layers_are_checked_before_training():
    bank = make_bank(fm=config("feature_matching", RAMP, layers=["frist"]))
    with pytest.raises(ConfigError, match="did you mean 'first'"):
        bank.check_features(["first", "second", "third"])
    make_bank(pixel=config("l1", 1.0)).check_features([])


def test_any_key_of_a_configuration_can_name_a_loss(scene):
    bank = make_bank(**{"a.b": config("l1", 1.0), "keys": config("l2", 1.0), "train": config("fft", 1.0)})
    assert list(bank(scene.inputs(), 0).values) == ["a.b", "keys", "train"]


def test_plan_shows_every_loss_over_the_run():
    losses = {
        "pixel": config("charbonnier", 1.0),
        "fm": config("feature_matching", {"start_iter": 500, "final_weight": 0.1}),
        "gan": config("gan", {"start_iter": 250, "final_weight": 0.2, "ramp": "step"}),
        "off": config("l2", 0),
    }
    bank = LossBank(losses, total_iter=1001)
    rows = {row.name: row for row in bank.plan()}
    assert rows["pixel"].points == tuple((it, 1.0) for it in (0, 100, 250, 500, 750, 1000))
    assert dict(rows["fm"].points)[750] == pytest.approx(0.1 * 250 / 501)
    assert [rows[n].first_iter for n in rows] == [0, 501, 250, None]
    assert [rows[n].ramp for n in rows] == ["constant", "linear 500-1001", "step 250", "constant"]
    lines = render_plan(bank.plan()).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["loss", "type", "from", "ramp", "0", "100", "250", "500", "750", "1000"]
    assert lines[2].split()[:5] == ["fm", "feature_matching", "501", "linear", "500-1001"]
    assert "never" in lines[4]
