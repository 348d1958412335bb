"""Weight schedules against their definition, the signature models, and that a Config cannot be changed."""

import math

import pytest
import torch
from pydantic import ValidationError

from sr_engine.config.optimizers import find_optimizer, optimizer_names
from sr_engine.config.prune import Prune, Turn
from sr_engine.config.schema import BalanceConfig, LossConfig, Training, WeightSchedule
from sr_engine.config.signature import signature_model
from sr_engine.errors import ConfigError


def test_a_number_is_a_constant_weight() -> None:
    weight = WeightSchedule.model_validate(0.3)
    assert weight.constant
    assert [weight.at(it, 100) for it in (0, 50, 99, 100)] == [0.3] * 4


def test_the_schedule_of_the_design() -> None:
    weight = WeightSchedule.model_validate({"start_iter": 10000, "final_weight": 0.1, "ramp": "linear"})
    assert weight.at(0, 20000) == weight.at(9999, 20000) == weight.at(10000, 20000) == 0.0
    assert weight.at(15000, 20000) == pytest.approx(0.05)
    assert weight.at(20000, 20000) == 0.1


def test_ramps() -> None:
    keys = {"start_iter": 10, "initial_weight": 1.0, "final_weight": 3.0, "ramp_iters": 20}
    linear, cosine = (WeightSchedule.model_validate({**keys, "ramp": ramp}) for ramp in ("linear", "cosine"))
    for it in range(50):
        progress = min(max((it - 10) / 20, 0.0), 1.0)
        assert linear.at(it, 1000) == pytest.approx(1 + 2 * progress)
        assert cosine.at(it, 1000) == pytest.approx(1 + 2 * (1 - math.cos(math.pi * progress)) / 2)


def test_a_step_is_at_its_start() -> None:
    step = WeightSchedule(start_iter=10, final_weight=2.0, ramp="step")
    assert [step.at(it, 100) for it in (9, 10, 50)] == [0.0, 2.0, 2.0]


def test_short_forms() -> None:
    assert Training.model_validate({"total_iter": 1, "balance": "grad_ratio"}).balance == BalanceConfig()
    assert LossConfig(type="l1").loss_weight.at(0, 1) == 1.0


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        WeightSchedule(final_weight=1.0).final_weight = 2.0  # pyright: ignore[reportAttributeAccessIssue]


def test_optimisers_are_those_of_torch() -> None:
    assert {"Adam", "AdamW", "SGD", "RMSprop"} <= set(optimizer_names())
    assert not {"LBFGS", "Optimizer"} & set(optimizer_names())
    assert find_optimizer("ADAMW") is torch.optim.AdamW
    assert find_optimizer("adam_w") is None


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimiser_has_checkable_arguments(name: str) -> None:
    optimizer = find_optimizer(name)
    assert optimizer is not None
    model = signature_model(optimizer, without={"params"})
    keys = {field.alias for field in model.model_fields.values()}
    assert {"lr", "weight_decay"} & keys
    assert model.model_validate({"lr": 1e-3})


def test_hints_that_cannot_be_read_name_their_owner() -> None:
    def broken(*, x: "Missing") -> None: ...  # noqa: F821  # pyright: ignore[reportUndefinedVariable]

    with pytest.raises(ConfigError, match="broken: the type of an argument cannot be read"):
        signature_model(broken)


def test_further_keywords_are_accepted_where_the_signature_takes_any() -> None:
    def open_ended(*, x: int = 1, **others: float) -> None: ...

    assert signature_model(open_ended).model_validate({"y": 2}).model_extra == {"y": 2}


def test_one_turn_of_pruning_is_at_its_start() -> None:
    assert Prune(ratio=0.35, start_iter=7).turns() == [Turn(7, 0.35)]


def test_turns_of_pruning_are_evenly_spaced_and_prune_less_and_less() -> None:
    turns = Prune(ratio=0.8, start_iter=10, end_iter=40, steps=4).turns()
    assert [turn.iteration for turn in turns] == [10, 20, 30, 40]
    # Zhu and Gupta 2017, eq. 1: s_f + (s_i - s_f) (1 - t)^3 with s_i = 0, at t = 1/4, 2/4, 3/4, 1
    assert [turn.ratio for turn in turns] == pytest.approx([0.8 * (1 - x**3) for x in (0.75, 0.5, 0.25, 0)])
