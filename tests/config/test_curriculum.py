"""The stages of a training: what they take from `training`, and what they may not contradict."""

import pytest

from sr_engine.config.changes import changed_keys
from sr_engine.config.load import dump_config, parse_config
from sr_engine.config.schema import Config
from sr_engine.errors import ConfigError

pytestmark = pytest.mark.usefixtures("entries")

STAGES = """\
name: x4
scale: 4
datasets:
  train: {type: pictures, path: photos}
losses:
  l1: {loss_weight: {start_iter: 20, final_weight: 1}}
training:
  optim_g: {type: SGD, lr: 1e-3, momentum: 0.9}
  accumulate: 2
  curriculum:
    - {scale: 2, iters: 10, optim_g: {lr: 5e-4}, scheduler: {warmup_iter: 3}}
    - {scale: 3, iters: 5, optim_g: {type: sgd, nesterov: true}}
    - {scale: 4, iters: 15, batch_size: 8, patch_size: 32, optim_g: {type: AdamW, lr: 1e-4}}
"""


def parsed(*overrides: str) -> Config:
    return parse_config(STAGES, "c", overrides)


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parsed(*overrides)
    return str(error.value).splitlines()


def test_the_length_is_the_sum_of_the_stages() -> None:
    assert parsed().training.total_iter == 30
    assert parsed("training.total_iter=30") == parsed()


def test_stages_replace_values_of_the_optimiser_or_all_of_them() -> None:
    training = parsed().training
    first, second, third = training.curriculum or []
    arguments = [stage.optim_g.arguments for stage in (first, second, third) if stage.optim_g]
    assert [(a["lr"], a.get("momentum"), a.get("nesterov")) for a in arguments] == [
        (5e-4, 0.9, None),
        (1e-3, 0.9, True),
        (1e-4, None, None),
    ]
    assert second.optim_g is not None
    assert second.optim_g.type == "SGD"
    assert first.scheduler is not None
    assert first.scheduler.arguments == {"warmup_iter": 3, "min_lr": 1e-6}
    assert (second.scheduler, second.batch_size, third.patch_size) == (None, None, 32)
    changed = parsed("training.optim_g.lr=2e-3").training
    assert [stage.optim_g.arguments["lr"] for stage in changed.curriculum or [] if stage.optim_g] == [5e-4, 2e-3, 1e-4]


def test_a_dump_is_read_back() -> None:
    for config in (parsed(), parsed("training.curriculum.1={scale: 3, epochs: 2}")):
        assert parse_config(dump_config(config)) == config


def test_epochs_leave_the_length_open() -> None:
    config = parsed("training.curriculum.1={scale: 3, epochs: 2}", "losses.l1.loss_weight.start_iter=1000")
    assert config.training.total_iter == 0


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("scale=2", "scale: expected 4, the scale of the last stage of training.curriculum, got 2"),
        (
            "training.total_iter=40",
            "training.total_iter: expected 30, the sum of training.curriculum, or no total_iter",
        ),
        ("training.curriculum=[]", "training.curriculum: expected at least 1 item(s), got []"),
        ("training.curriculum=2", "training.curriculum: expected a list, got 2"),
        ("training.curriculum.0=2", "training.curriculum.0: expected a mapping, got 2"),
        ("training.curriculum.0.scale=5", "training.curriculum.0.scale: expected a number <= 4, got 5"),
        ("training.curriculum.0.iters=0", "training.curriculum.0.iters: expected a number > 0, got 0"),
        ("training.curriculum.0.iters=x", "training.curriculum.0.iters: expected a whole number, got 'x'"),
        ("training.curriculum.0.epochs=3", "training.curriculum.0: expected either iters or epochs, got both"),
        ("training.curriculum.0.iters=null", "training.curriculum.0: expected either iters or epochs, got neither"),
        (
            "training.curriculum.0={iters: 10}",
            "training.curriculum.0.scale: expected a value, which is required, got nothing",
        ),
        (
            "training.curriculum.0.iter=3",
            "training.curriculum.0.iter: expected a known key, got 'iter' (did you mean 'iters'?)",
        ),
        (
            "training.curriculum.0.lr=3",
            "training.curriculum.0.lr: expected a known key, got 'lr' (it stands under optim_g or optim_d)",
        ),
        ("training.curriculum.0.optim_g.lr=x", "training.curriculum.0.optim_g.lr: expected a number, got 'x'"),
        ("training.optim_g.lr=x", "training.optim_g.lr: expected a number, got 'x'"),  # and not in each stage again
        (
            "training.curriculum.2.scheduler.warmup_iter=15",
            "training.curriculum.2.scheduler.warmup_iter: expected less than training.curriculum.2.iters (15), got 15",
        ),
        (
            "training.scheduler.warmup_iter=10",
            "training.scheduler.warmup_iter: expected less than training.curriculum.1.iters (5), got 10",
        ),
        (
            "training.curriculum.2.batch_size=7",
            "training.curriculum.2.batch_size: expected a multiple of training.accumulate (2), got 7",
        ),
        (
            "losses.l1.loss_weight.start_iter=30",
            "losses.l1.loss_weight.start_iter: expected less than training.total_iter (30), got 30",
        ),
        ("training.curriculum=null", "training.total_iter: expected a value, which is required, got nothing"),
    ],
)
def test_one_problem_is_one_line(override: str, line: str) -> None:
    found = problems(override)
    assert len(found) == 1
    assert found[0].partition(": ")[2].startswith(line)


def test_all_problems_at_once_with_their_lines() -> None:
    text = STAGES.replace("scale: 4\ndata", "scale: 3\ndata").replace("lr: 5e-4", "lr: x")
    with pytest.raises(ConfigError) as error:
        parse_config(text.replace("iters: 15,", "iters: 15, epochs: 1,"), "c")
    assert str(error.value).splitlines() == [
        "c:2: scale: expected 4, the scale of the last stage of training.curriculum, got 3",
        "c:11: training.curriculum.0.optim_g.lr: expected a number, got 'x'",
        "c:13: training.curriculum.2: expected either iters or epochs, got both",
    ]


def test_changes_name_the_stage() -> None:
    assert changed_keys(parsed(), parsed("training.curriculum.0.optim_g.lr=1e-5", "training.curriculum.1.iters=6")) == [
        "training.total_iter: 30 -> 31",
        "training.curriculum.0.optim_g.lr: 0.0005 -> 1e-05",
        "training.curriculum.1.iters: 5 -> 6",
    ]
