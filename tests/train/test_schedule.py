"""Learning rates against their formulas."""

import math

import pytest

from sr_engine.train.schedule import Constant, Cosine, MultiStep


def test_cosine_falls_from_the_base_rate_to_the_lowest():
    schedule = Cosine(min_lr=1e-5)
    assert schedule(0, 100, 1e-3) == pytest.approx(1e-3)
    assert schedule(50, 100, 1e-3) == pytest.approx((1e-3 + 1e-5) / 2)
    assert schedule(25, 100, 1e-3) == pytest.approx(1e-5 + (1e-3 - 1e-5) * (0.5 + math.sqrt(2) / 4))
    assert schedule(100, 100, 1e-3) == pytest.approx(1e-5)
    assert schedule(250, 100, 1e-3) == pytest.approx(1e-5)


def test_cosine_starts_when_the_warm_up_ends():
    schedule = Cosine(warmup_iter=20, min_lr=0.0)
    assert schedule(20, 120, 1.0) == pytest.approx(1.0)
    assert schedule(70, 120, 1.0) == pytest.approx(0.5)


def test_a_base_rate_below_the_lowest_never_rises():
    assert Cosine(min_lr=1e-3)(60, 100, 1e-4) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    "schedule", [Cosine(warmup_iter=4), MultiStep(milestones=[50], warmup_iter=4), Constant(warmup_iter=4)]
)
def test_warm_up_rises_linearly_and_the_first_iteration_moves(schedule):
    assert [schedule(it, 100, 1.0) for it in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_multistep_multiplies_at_each_milestone():
    schedule = MultiStep(milestones=[10, 20], gamma=0.5)
    assert [schedule(it, 100, 8.0) for it in (0, 9, 10, 19, 20, 99)] == [8.0, 8.0, 4.0, 4.0, 2.0, 2.0]
