import math

import pytest
import torch

from sr_engine.config import registry
from sr_engine.config.schema import BalanceConfig, LossConfig, WeightSchedule
from sr_engine.errors import ConfigError, TrainingError
from sr_engine.losses.balance import CALIBRATION, GradientBalance
from sr_engine.losses.bank import LossBank
from sr_engine.losses.pixel import L2Loss


@pytest.fixture(autouse=True)
def scaled(monkeypatch):
    """L2 times a factor: the same loss in another unit."""

    class Scaled(L2Loss):
        def __init__(self, *, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, inputs):
            return self.factor * super().forward(inputs)

    monkeypatch.setitem(registry._entries["loss"], "scaled", Scaled)


def make_bank(factor=1.0, weight: object = 0.3, **balance):
    schedules = {"pixel": 1.0, "aux": weight, "fft": 0.1}
    types = {"pixel": ("l1", {}), "aux": ("scaled", {"factor": factor}), "fft": ("fft", {})}
    losses = {
        name: LossConfig(type=types[name][0], arguments=types[name][1], loss_weight=WeightSchedule.model_validate(w))
        for name, w in schedules.items()
    }
    return LossBank(losses, total_iter=1000, balance=BalanceConfig(**balance))


def share(bank, scene, report):
    """Norm of the weighted gradient of each loss at the last layer, relative to the first."""
    inputs = scene.inputs()
    norms = [
        report.weights[n]
        * torch.autograd.grad(bank.losses[n](inputs), scene.net_g.tail.weight, retain_graph=True)[0].norm()
        for n in report.weights
    ]
    return [(n / norms[0]).item() for n in norms]


def train(bank, scene, its):
    optimizer, report = torch.optim.SGD(scene.net_g.parameters(), lr=0.01), None
    for it in its:
        report = bank(scene.inputs(), it, scene.net_g.tail.weight)
        optimizer.zero_grad()
        report.total.backward()
        optimizer.step()
    return report


def test_a_weight_is_a_share_of_the_gradient(scene):
    bank = make_bank()
    report = bank(scene.inputs(), 0, scene.net_g.tail.weight)
    assert share(bank, scene, report) == pytest.approx([1.0, 0.3, 0.1], rel=1e-4)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_scaling_a_loss_by_1000_leaves_its_share(factor, make_scene):
    shares = []
    for f in (1.0, factor):
        scene = make_scene()
        bank = make_bank(f)
        shares.append(share(bank, scene, train(bank, scene, range(150))))
    assert shares[1] == pytest.approx(shares[0], rel=0.05)
    assert shares[1][1] == pytest.approx(0.3, rel=0.5)  # an average over a moving target, not each step's ratio


def test_the_ramp_still_applies(scene):
    bank = make_bank(weight={"start_iter": 100, "final_weight": 0.4, "ramp_iters": 100})
    shares = {it: share(bank, scene, bank(scene.inputs(), it, scene.net_g.tail.weight)) for it in (150, 200)}
    assert shares[150][1] == pytest.approx(0.2, rel=1e-4)
    assert shares[200][1] == pytest.approx(0.4, rel=1e-4)


def test_measured_every_so_often_and_at_once_for_a_new_loss():
    balance = GradientBalance(["pixel", "gan"], BalanceConfig(every=10))
    zero = torch.zeros(())
    both = {"pixel": zero, "gan": zero}
    assert balance.due(3, both)
    balance.update({"pixel": 1.0, "gan": 2.0})
    assert [it for it in range(31) if balance.due(it, both)] == [0, 10, 20, 30]
    assert not balance.due(10, {"pixel": zero})
    assert not balance.due(10, {"gan": zero})  # nothing to compare with


def test_average_is_plain_first_then_exponential_in_the_logarithm():
    balance = GradientBalance(["pixel", "gan"], BalanceConfig(momentum=0.75, limit=1e9))
    ratios = [2.0, 8.0, 4.0, 1.0, 16.0, 32.0]
    for ratio in ratios:
        balance.update({"pixel": ratio, "gan": 1.0})
    expected = sum(math.log(r) for r in ratios[:4]) / 4
    for ratio in ratios[4:]:
        expected = 0.75 * expected + 0.25 * math.log(ratio)
    assert balance.factor("gan") == pytest.approx(math.exp(expected))
    assert balance.factor("pixel") == 1.0


def test_a_vanishing_gradient_cannot_raise_a_weight_without_limit():
    balance = GradientBalance(["pixel", "gan"], BalanceConfig(momentum=0.5, limit=10.0))
    for _ in range(CALIBRATION):
        balance.update({"pixel": 1.0, "gan": 1e-3})
    assert balance.factor("gan") == pytest.approx(1e3)
    for _ in range(100):
        balance.update({"pixel": 1.0, "gan": 1e-12})
    assert balance.factor("gan") == pytest.approx(1e4)
    for _ in range(100):
        balance.update({"pixel": 1.0, "gan": 1e12})
    assert balance.factor("gan") == pytest.approx(1e2)


@pytest.mark.parametrize("norm", [0.0, math.nan, math.inf])
def test_a_useless_measurement_is_left_out(norm):
    balance = GradientBalance(["pixel", "gan"], BalanceConfig())
    balance.update({"pixel": 1.0, "gan": 0.5})
    before = balance.state()
    balance.update({"pixel": 1.0, "gan": norm})
    balance.update({"pixel": norm, "gan": 1.0})
    assert balance.state() == before


def test_state_continues_exactly(make_scene, tmp_path):
    scene = make_scene()
    first, second = make_bank(), make_bank()
    train(first, scene, range(130))
    torch.save(first.state_dict(), tmp_path / "bank.pt")
    second.load_state_dict(torch.load(tmp_path / "bank.pt", weights_only=True))
    for it in range(130, 160):
        a, b = (bank(scene.inputs(), it, scene.net_g.tail.weight) for bank in (first, second))
        assert a.weights == b.weights
        assert torch.equal(a.total, b.total)


def test_balance_can_be_switched_between_runs(scene):
    balanced = make_bank()
    train(balanced, scene, range(3))
    plain = LossBank(balanced.configs, total_iter=1000)
    plain.load_state_dict(balanced.state_dict())
    balanced.load_state_dict(plain.state_dict())
    assert plain.weight("aux", 0) == 0.3


def test_errors_name_the_remedy(scene):
    with pytest.raises(ConfigError, match=r"'pixl' \(did you mean 'pixel'\?\)"):
        make_bank(reference="pixl")
    with pytest.raises(TrainingError, match="last_layer"):
        make_bank()(scene.inputs(), 0)
