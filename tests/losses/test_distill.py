"""The losses of distillation against their formulas, written out."""

import pytest
import torch
from torch import nn

from sr_engine.errors import TrainingError
from sr_engine.losses.distill import DistillFeaturesLoss, DistillLoss
from sr_engine.losses.inputs import LossInputs


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("criterion", ["l1", "l2", "charbonnier"])
def test_a_teacher_counts_less_where_it_is_wrong(criterion):
    sr, hr, target = (_random(2, 3, 6, 4, seed=k) for k in range(3))
    target[:, :, :3] = hr[:, :, :3] + 0.02  # nearly right in the upper half
    error = (sr - target).double()
    distance = {"l1": error.abs(), "l2": error**2, "charbonnier": torch.sqrt(error**2 + 1e-6)}[criterion]
    inputs = LossInputs(sr, hr, torch.zeros(2, 3, 3, 2))
    plain = DistillLoss(lambda _: target, criterion=criterion)(inputs)
    assert plain.item() == pytest.approx(distance.mean().item(), rel=1e-6)
    trust = torch.exp(-10 * (target - hr).abs().double()).clip(0.1, 1)
    assert trust.min() == 0.1
    weighted = DistillLoss(lambda _: target, criterion=criterion, confidence=10.0)(inputs)
    assert weighted.item() == pytest.approx((trust * distance).mean().item(), rel=1e-6)
    assert weighted.dtype == torch.float32


def test_a_target_made_beforehand_is_taken():
    x = torch.zeros(1, 3, 4, 4)
    loss = DistillLoss(lambda inputs: inputs.hr)
    assert loss(LossInputs(x, x + 1, x, x + 0.25)).item() == 0.25
    assert loss(LossInputs(x, x + 1, x)).item() == 1.0


def test_a_teacher_of_another_scale_is_noticed():
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(TrainingError, match=r"the teacher's output has shape \(1, 3, 4, 4\)"):
        DistillLoss(lambda _: x[..., :4, :4])(LossInputs(x, x, x))


def test_features_are_projected_and_measured_by_the_teachers_magnitude():
    mine, theirs = [_random(2, 2, 4, 4, seed=1)], [7 * _random(2, 3, 8, 8, seed=2)]
    mine[0].requires_grad_()
    projection = nn.Conv2d(2, 3, 1)
    x = torch.zeros(2, 3, 8, 8)
    loss = DistillFeaturesLoss(lambda _: (mine, theirs), [projection])(LossInputs(x, x, x))
    wanted = nn.functional.interpolate(theirs[0], size=(4, 4), mode="bilinear", antialias=True)
    expected = (projection(mine[0]) - wanted).abs().mean() / wanted.mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert mine[0].grad is not None
    assert projection.weight.grad is not None
