"""Everything that can be wrong, each with its line, path, expectation and suggestion, and all at once."""

import pytest

from sr_engine.config.load import parse_config
from sr_engine.errors import ConfigError

pytestmark = pytest.mark.usefixtures("entries")


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse_config(text, "c", overrides)
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    ("override", "line"),
    [
        # plain values
        ("scale=5", "scale: expected a number <= 4, got 5"),
        ("scale=true", "scale: expected a whole number, got true"),
        ("scale='4'", "scale: expected a whole number, got '4'"),
        ("scale=4.0", "scale: expected a whole number, got 4.0"),
        ("name=a/b", r"name: expected a string that matches ^\w[\w.-]*$, got 'a/b'"),
        ("training.grad_clip=0", "training.grad_clip: expected a number > 0, got 0"),
        ("training.grad_clip='1e-4'", "training.grad_clip: expected a number, got '1e-4'"),
        ("training.ema_decay=.nan", "training.ema_decay: expected a finite number, got nan"),
        ("training.compile=1", "training.compile: expected true or false, got 1"),
        (
            "training.precision=bf61",
            "training.precision: expected 'auto', 'fp32', 'bf16' or 'fp16', got 'bf61' (did you mean 'bf16'?)",
        ),
        (
            "training.precision=int8",
            "training.precision: expected 'auto', 'fp32', 'bf16' or 'fp16', got 'int8' (INT8 loses",
        ),
        (
            "training.precision=FP8",
            "training.precision: expected 'auto', 'fp32', 'bf16' or 'fp16', got 'FP8' (FP8 loses",
        ),
        ("validation.tile=on", "validation.tile: expected a whole number or 'auto' or 'off', got 'on'"),
        ("training=3", "training: expected a mapping, got 3"),
        ("losses={}", "losses: expected at least 1 item(s), got {}"),
        # keys
        ("training.total=3", "training.total: expected a known key, got 'total' (did you mean 'total_iter'?)"),
        ("logging.colour=red", "logging.colour: expected one of the keys print_every, tensorboard, got 'colour'"),
        (
            "curriculum=[]",
            "curriculum: expected a known key, got 'curriculum' (it stands under training)",
        ),
        ("num_gpu=1", "num_gpu: expected a known key, got 'num_gpu' (use --device or torchrun)"),
        # types and their arguments
        ("network_g=tiny", "network_g: expected a mapping such as {type: ...}, got 'tiny'"),
        (
            "network_g.type=genrator",
            "network_g.type: expected one of generator, got 'genrator' (did you mean 'generator'?)",
        ),
        ("network_g.type=3", "network_g.type: expected one of generator, got 3"),
        ("network_g.widht=8", "network_g.widht: expected a known key, got 'widht' (did you mean 'width'?)"),
        ("network_g.width=8.5", "network_g.width: expected a whole number, got 8.5"),
        ("network_g.preset=tinny", "network_g.preset: expected 'nano' or 'tiny', got 'tinny' (did you mean 'tiny'?)"),
        ("datasets.train.powers=true", "datasets.train.powers: expected another value than a boolean, got true"),
        ("datasets.train.path=3", "datasets.train.path: expected a string or a list or a mapping, got 3"),
        ("datasets.train.path=[a, 3]", "datasets.train.path.1: expected a string, got 3"),
        ("datasets.train.path={a: x}", "datasets.train.path.a: expected a number, got 'x'"),
        ("datasets.train.threshold=x", "datasets.train.threshold: expected a number, got 'x'"),
        (
            "datasets.train.degradation={sigma: 1, size: 2}",
            "datasets.train.degradation.size: expected a known key, got 'size' (did you mean 'sizes'?)",
        ),
        ("losses.pixel={}", "losses.pixel: expected type: one of feature_matching, l1, got none"),
        ("losses.l1.eps=[]", "losses.l1.eps: expected a number, got []"),
        ("losses.l1.norm=x", "losses.l1.norm: expected one of the keys eps, got 'norm'"),
        ("training.optim_g.lr=fast", "training.optim_g.lr: expected a number, got 'fast'"),
        ("training.optim_g.betas=[0.9]", "training.optim_g.betas.1: expected a value, which is required, got nothing"),
        ("training.optim_g.params=[]", "training.optim_g.params: expected one of the keys lr, betas, eps,"),
        (
            "training.scheduler={min_ler: 1}",
            "training.scheduler.min_ler: expected a known key, got 'min_ler' (did you mean 'min_lr'?)",
        ),
        # weights
        ("losses.l1.loss_weight=-1", "losses.l1.loss_weight: expected a number >= 0, got -1"),
        (
            "losses.l1.loss_weight=no",
            "losses.l1.loss_weight: expected a number or a schedule such as {start_iter: 1000, final_weight: 0.1}, "
            "got 'no'",
        ),
        (
            "losses.l1.loss_weight={start_iter: 5}",
            "losses.l1.loss_weight.final_weight: expected a value, which is required, got nothing",
        ),
        (
            "losses.l1.loss_weight={final_weight: 1, ramp: linera}",
            "losses.l1.loss_weight.ramp: expected 'linear', 'cosine' or 'step', got 'linera' (did you mean 'linear'?)",
        ),
        (
            "losses.l1.loss_weight={final_weight: 1, ramp: step, ramp_iters: 5}",
            "losses.l1.loss_weight: expected no ramp_iters together with ramp: step, "
            "got {final_weight: 1, ramp: 'step', ramp_iters: 5}",
        ),
        # keys that contradict each other
        (
            "losses.l1.loss_weight={start_iter: 100, final_weight: 1}",
            "losses.l1.loss_weight.start_iter: expected less than training.total_iter (100), got 100",
        ),
        (
            "losses.feature_matching={}",
            "losses.feature_matching: expected a discriminator, which feature_matching needs, got no network_d",
        ),
        ("network_d.type=unet", "network_d: expected a loss that uses it (feature_matching), got none"),
        (
            "training.net_d_init_iters=100",
            "training.net_d_init_iters: expected less than training.total_iter (100), got 100",
        ),
        (
            "training.scheduler.warmup_iter=100",
            "training.scheduler.warmup_iter: expected less than training.total_iter (100), got 100",
        ),
        ("training.accumulate=3", "training.accumulate: expected a divisor of training.batch_size (16), got 3"),
        ("training.balance={reference: l2}", "training.balance.reference: expected one of l1, got 'l2'"),
        # a teacher
        ("distill={}", "distill.teacher: expected a value, which is required, got nothing"),
        ("distill={teacher: t, cache: int8}", "distill.cache: expected 'uint8' or 'float16', got 'int8'"),
        (
            "distill={teacher: t, confidense: 3}",
            "distill.confidense: expected a known key, got 'confidense' (did you mean 'confidence'?)",
        ),
        (
            "distill={teacher: t, loss_weight: {start_iter: 100, final_weight: 1}}",
            "distill.loss_weight.start_iter: expected less than training.total_iter (100), got 100",
        ),
        (
            "distill={teacher: t, features: {student: [0, 1], teacher: [0]}}",
            "distill.features.teacher: expected as many layers as student has (2), got 1",
        ),
        (
            "distill={teacher: t, features: {student: [], teacher: [0]}}",
            "distill.features.student: expected at least 1 item(s), got []",
        ),
        (
            "distill={teacher: t, features: {student: [0], teacher: [0], loss_weight: {start_iter: 100, "
            "final_weight: 1}}}",
            "distill.features.loss_weight.start_iter: expected less than training.total_iter (100), got 100",
        ),
        # pruning
        ("prune={}", "prune.ratio: expected a value, which is required, got nothing"),
        ("prune={ratio: 0.95}", "prune.ratio: expected a number <= 0.9, got 0.95"),
        ("prune={ratio: 0.0}", "prune.ratio: expected a number > 0, got 0.0"),
        ("prune={ratio: 0.3, step: 2}", "prune.step: expected a known key, got 'step' (did you mean 'steps'?)"),
        ("prune={ratio: 0.3, criterion: l3}", "prune.criterion: expected 'taylor', 'l1' or 'l2', got 'l3'"),
        ("prune={ratio: 0.3, regularise: 1}", "prune.regularise: expected a number < 1, got 1"),
        (
            "prune={ratio: 0.3, start_iter: 100}",
            "prune.start_iter: expected less than training.total_iter (100), got 100",
        ),
        (
            "prune={ratio: 0.3, end_iter: 50}",
            "prune.end_iter: expected steps > 1, since one turn is at start_iter, got 50",
        ),
        ("prune={ratio: 0.3, steps: 3}", "prune.end_iter: expected the iteration of the last of 3 turns, got nothing"),
        (
            "prune={ratio: 0.3, start_iter: 5, end_iter: 6, steps: 3}",
            "prune.end_iter: expected at least 7, start_iter and an iteration for each further turn, got 6",
        ),
        (
            "prune={ratio: 0.3, end_iter: 100, steps: 3}",
            "prune.end_iter: expected less than training.total_iter (100), got 100",
        ),
        (
            "prune={ratio: 0.3}\ntraining.curriculum=[{scale: 4, iters: 100}]",
            "prune: expected no training.curriculum: prune in a run of its own, with load_from what this one makes",
        ),
        (
            "prune={ratio: 0.3}\ndistill={teacher: t, features: {student: [0], teacher: [0]}}",
            "prune: expected no distill.features: its projections fit the layers of the network as it begins",
        ),
    ],
)
def test_one_problem_is_one_line(complete: str, override: str, line: str) -> None:
    found = problems(complete, *override.splitlines())
    assert len(found) == 1
    assert found[0].startswith(f"command line: {line}")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("losses.distill={type: l1}", "losses.distill: expected another name: distill is what the log calls"),
        ("training.compile=true", "distill.features: expected training.compile: false, since a compiled network"),
        ("training.balance=grad_ratio", "distill.features: expected no training.balance: it measures losses at the"),
    ],
)
def test_what_does_not_go_with_a_teacher(complete: str, override: str, line: str) -> None:
    teacher = "distill={teacher: t, features: {student: [0], teacher: [body.1]}}"
    (found,) = problems(complete, teacher, override)
    assert found.startswith(f"command line: {line}")


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    text = """\
name: x4
scal: 4
network_g: {presett: tiny}
network_d: {type: unet}
datasets:
  train: {type: pictures}
losses:
  l1:
    eps: '1e-3'
    loss_weight: {start_iter: 500, final_weight: 1}
  feature_matching: {criterion: l3}
training:
  total_iter: 100
  optim_g: {type: adam, lr: fast}
  use_amp: true
training2: {}
name: again
"""
    assert problems(text, "training.optim_g.weight_decay=x") == [
        "c:2: scal: expected a known key, got 'scal' (did you mean 'scale'?)",
        "c:3: network_g.presett: expected a known key, got 'presett' (did you mean 'preset'?)",
        "c:6: datasets.train.path: expected a value, which is required, got nothing",
        "c:9: losses.l1.eps: expected a number, got '1e-3'",
        "c:11: losses.feature_matching.criterion: expected 'l1' or 'l2', got 'l3'",
        "c:14: training.optim_g.lr: expected a number, got 'fast'",
        "c:15: training.use_amp: expected a known key, got 'use_amp' (use training.precision)",
        "c:16: training2: expected a known key, got 'training2' (did you mean 'training'?)",
        "c:17: name: expected this key once, got it again (first on line 1)",
        "command line: training.optim_g.weight_decay: expected a number, got 'x'",
    ]


def test_a_precision_that_was_ruled_out_is_told_its_measured_loss(complete: str) -> None:
    (found,) = problems(f"{complete}  precision: int8\n")
    assert found.startswith(
        "c:9: training.precision: expected 'auto', 'fp32', 'bf16' or 'fp16', got 'int8' (INT8 loses "
    )
    assert found.endswith("; docs/precision.md)")


def test_contradictions_are_found_beside_other_problems(complete: str) -> None:
    found = problems(complete, "training.bach_size=8", "losses.l1.loss_weight={start_iter: 100, final_weight: 1}")
    assert [line.split(":")[1].strip() for line in found] == ["training.bach_size", "losses.l1.loss_weight.start_iter"]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text\n"])
def test_a_file_without_keys(text: str) -> None:
    assert problems(text)[0].startswith("c:1: ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scale", "command line: expected key.path=value, got 'scale'"),
        ("=3", "command line: expected key.path=value, got '=3'"),
        ("a..b=3", "command line: expected key.path=value, got 'a..b=3'"),
        ("scale=[", "command line: scale: expected YAML"),
        (
            "losses.l1.loss_weight.final_weight.x=1",
            "command line: losses.l1.loss_weight.final_weight: expected a mapping at losses.l1.loss_weight, got 1",
        ),
        ("plugins.2=x", "command line: plugins.2: expected the number of one of 1 items, got '2'"),
    ],
)
def test_overrides_that_cannot_be_applied(complete: str, override: str, message: str) -> None:
    text = complete.replace("l1: {}", "l1: {loss_weight: 1}") + "plugins: [x.py]\n"
    assert any(line.startswith(message) for line in problems(text, override))


def test_overrides_replace_values_and_items(complete: str) -> None:
    text = complete + "  optim_g: {betas: [0.9, 0.9]}\n"
    config = parse_config(text, "c", ["training.optim_g.betas.1=0.95", "datasets.train.path={a: 1}", "scale=2"])
    assert config.training.optim_g.arguments["betas"] == [0.9, 0.95]
    assert config.datasets.train.arguments["path"] == {"a": 1.0}
    assert config.scale == 2


def test_an_override_hides_the_lines_of_what_it_replaces(complete: str) -> None:
    assert problems(complete, "datasets.train={type: pictures}") == [
        "command line: datasets.train.path: expected a value, which is required, got nothing"
    ]
