"""Iterations in which the host never waits: the same updates, and errors that arrive later but say the same."""

import functools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sr_engine.losses.finite import NonFiniteLossError
from sr_engine.train import run
from sr_engine.train import session as session_module
from sr_engine.train.checkpoint import load_checkpoint
from sr_engine.train.distributed import World
from sr_engine.train.learner import NonFiniteGradientError
from sr_engine.train.pair import Pair
from sr_engine.train.plain import obstacle
from sr_engine.train.session import Session
from sr_engine.train.steps import Steps

CPU = World(torch.device("cpu"))
GENERATOR = "network_g={type: generator, preset: nano}"
SCHEDULED = "losses.fft={loss_weight: {start_iter: 2, final_weight: 0.1, ramp: linear, ramp_iters: 6}}"


def _pair(seed: int, device: str = "cpu") -> Pair:
    random = torch.Generator().manual_seed(seed)
    sides = (4, 3, 12, 12), (4, 3, 24, 24)
    lr, hr = (torch.rand(side, generator=random).to(device, memory_format=torch.channels_last) for side in sides)
    return Pair(lr, hr)


def _no_pair() -> Pair:
    raise AssertionError("only the discriminator asks for further batches")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain steps on the CPU too."""
    monkeypatch.setattr(session_module, "obstacle", lambda *_, **__: None)


def _train(session: Session, steps: int, device: str = "cpu") -> None:
    for _ in range(steps):
        pair = _pair(session.iteration, device)
        report = session.steps.run(pair, session.iteration, **session.learning_rates(), next_pair=_no_pair)
        session.meter.add(report.values, report.weights)
        session.iteration += 1


def _state(session: Session) -> dict[str, Tensor]:
    """Weights, average and moments by name."""
    steps = session.steps
    found = {f"ema {name}": value for name, value in steps.ema.net.state_dict().items()}
    for index, moments in steps.generator.optimizer.state_dict()["state"].items():
        found |= {f"{index} {name}": value for name, value in moments.items()}
    found |= {f"net {name}": value for name, value in steps.generator.net.state_dict().items()}
    return {name: value.detach().clone().cpu() for name, value in found.items()}


def _close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name} {text}"
        )


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_plain_steps_make_the_updates_of_the_usual_ones(make_config, monkeypatch, optimizer):
    config = make_config(GENERATOR, SCHEDULED, f"training.optim_g={{type: {optimizer}, lr: 1e-3}}")
    usual = Session(config, CPU)
    monkeypatch.setattr(session_module, "obstacle", lambda *_, **__: None)
    plain = Session(config, CPU)
    assert usual.steps.plain is None
    assert plain.steps.plain is not None
    start = _state(plain)
    for session in (usual, plain):
        _train(session, 10)
    _close(_state(usual), _state(plain), 1e-6)
    assert any(not torch.equal(start[name], after) for name, after in _state(plain).items() if name in start)
    assert usual.steps.ema.updates == plain.steps.ema.updates == 10
    for name, values in usual.meter.values.items():
        torch.testing.assert_close(torch.stack(values), torch.stack(plain.meter.values[name]), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("plain")
def test_an_update_that_is_not_finite_is_left_out_and_named(make_config):
    session = Session(make_config("network_g.dropout=0.0"), CPU)
    _train(session, 2)
    before, updates = _state(session), session.steps.ema.updates
    rates: Any = {**session.learning_rates(), "next_pair": _no_pair}
    launched = session.steps.launch(Pair(_pair(0).lr, _pair(0).hr * torch.nan), 2, **rates)
    with pytest.raises(NonFiniteLossError, match="pixel is nan"):
        launched.settle()
    hook = session.steps.generator.parameters[0].register_hook(lambda gradient: gradient * torch.inf)
    launched = session.steps.launch(_pair(0), 3, **rates)
    with pytest.raises(NonFiniteGradientError, match="gradient of the generator"):
        launched.settle()
    hook.remove()
    _close(before, _state(session), 0)
    assert session.steps.ema.updates == updates
    assert all(p.grad is None for p in session.steps.generator.parameters)
    _train(session, 1)
    assert not torch.equal(before["net first.weight"], _state(session)["net first.weight"])


def _rows(output: Path) -> Iterator[dict]:
    for line in (output / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        yield {k: v for k, v in row.items() if k not in ("it_per_s", "data_wait")}


def _spoil(monkeypatch: pytest.MonkeyPatch, *iterations: int) -> None:
    original = Steps.launch

    def launch(self: Steps, pair: Pair, it: int, **options: Any) -> Any:
        return original(self, Pair(pair.lr, pair.hr * torch.nan) if it in iterations else pair, it, **options)

    monkeypatch.setattr(Steps, "launch", launch)


def test_a_run_skips_the_same_iterations_and_names_the_same_pictures(tmp_path, make_config, monkeypatch, quiet):
    # The 4th iteration ends an interval of the log, the 12th the run.
    _spoil(monkeypatch, 3, 6, 11)
    config = make_config("network_g.dropout=0.0")
    run(config, output=tmp_path / "usual", device="cpu", console=quiet)
    monkeypatch.setattr(session_module, "obstacle", lambda *_, **__: None)
    run(config, output=tmp_path / "plain", device="cpu", console=quiet)
    usual, plain = (list(_rows(tmp_path / name)) for name in ("usual", "plain"))
    skipped = [row for row in plain if row["event"] == "skipped"]
    assert [row["iter"] for row in skipped] == [4, 7, 12]
    assert skipped == [row for row in usual if row["event"] == "skipped"]
    train = [[row for row in rows if row["event"] == "train"] for rows in (usual, plain)]
    for a, b in zip(*train, strict=True):
        assert a.pop("losses") == pytest.approx(b.pop("losses"), rel=1e-5)
        assert a == b


@pytest.mark.usefixtures("plain")
def test_a_plain_run_continues_bit_for_bit(tmp_path, make_config, monkeypatch, quiet):
    config = make_config(SCHEDULED)
    run(config, output=tmp_path / "whole", device="cpu", console=quiet)
    with monkeypatch.context() as patch:
        _stop_at(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            run(config, output=tmp_path / "parts", device="cpu", console=quiet)
    run(config, output=tmp_path / "parts", device="cpu", console=quiet)
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoints/00000012.ckpt") for name in ("whole", "parts"))
    for key in ("generator", "ema"):
        for name, value in whole[key]["net"].items():
            assert torch.equal(value, parts[key]["net"][name]), name
    assert [row for row in _rows(tmp_path / "whole") if row["event"] == "train"] == [
        row for row in _rows(tmp_path / "parts") if row["event"] == "train"
    ]


def _stop_at(monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
    original = Steps.launch

    def launch(self: Steps, pair: Pair, it: int, **options: Any) -> Any:
        if it == iteration:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, pair, it, **options)

    monkeypatch.setattr(Steps, "launch", launch)


def test_what_cannot_be_recorded_says_why(make_config):
    session = Session(make_config("training.cuda_graph=true"), CPU)
    assert session.steps.plain is None
    assert session.notes == ["training.cuda_graph has no effect: the device is cpu"]


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (functools.partial(torch.optim.AdamW, fused=True), None),
        (functools.partial(torch.optim.Adam, fused=True), None),
        (functools.partial(torch.optim.Adam, fused=False), "Adam cannot leave out an update on the device"),
        # Whose momentum is not initialised where the first update is left out.
        (functools.partial(torch.optim.SGD, momentum=0.9, fused=True), "SGD cannot leave out an update on the device"),
    ],
)
def test_optimisers_that_cannot_leave_out_an_update(optimizer, reason):
    generator: Any = SimpleNamespace(
        device=torch.device("cuda"),
        optimizer=optimizer([torch.zeros(1, requires_grad=True)], lr=1e-3),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        parallel=None,
    )
    bank: Any = SimpleNamespace(balance=None)
    assert obstacle(generator, bank, accumulate=1, adversarial=False) == reason


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("training.optim_g={type: SGD}",), "SGD cannot leave out an update on the device"),
        (("training.optim_g={type: NAdam}",), "NAdam cannot leave out an update on the device"),
        (("training.optim_g={type: AdamW, fused: false}",), "AdamW cannot leave out an update on the device"),
        (("training.accumulate=2",), "accumulate is above 1"),
    ],
)
@pytest.mark.gpu
def test_reasons_on_a_gpu(make_config, overrides, reason):
    session = Session(make_config("training.cuda_graph=true", *overrides), World(torch.device("cuda")))
    assert session.notes == [f"training.cuda_graph has no effect: {reason}"]
    _train(session, 2, "cuda")


@pytest.fixture
def deterministic() -> Iterator[None]:
    """The same algorithms in every session."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


@pytest.mark.gpu
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_recorded_training_equals_one_that_is_not(make_config, precision, preset):
    """20 iterations, a loss that starts in the middle, and a resume: weights within 1e-5, in bf16 within 4 x the rate.

    The optimiser that is recorded computes its bias corrections on the device: differences of an ulp, which flip now
    and then a rounding to bf16. Where a gradient is about 0 that may turn its sign and an update of Adam, by 2 x the
    rate.
    """
    world = World(torch.device("cuda"))
    states = []
    for recording in (False, True):
        overrides = ("training.total_iter=20", f"training.precision={precision}", "training.patch_size=16")
        config = make_config(
            f"network_g={{type: generator, preset: {preset}}}", SCHEDULED, *overrides, "training.optim_g.lr=1e-4"
        )
        config.training.cuda_graph = recording
        session = Session(config, world)
        _train(session, 13, "cuda")
        state = session.state_dict()
        session = Session(config, world, state)
        _train(session, 7, "cuda")
        assert session.steps.plain is not None
        if recording:
            assert session.steps.plain.recorded
        states.append(_state(session))
    _close(states[0], states[1], 4e-4 if precision == "bf16" else 1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("recording", [False, True])
def test_a_launch_never_waits_for_the_gpu(make_config, recording):
    session = Session(make_config(GENERATOR, f"training.cuda_graph={recording}"), World(torch.device("cuda")))
    _train(session, 6, "cuda")
    pair, rates = _pair(0, "cuda"), session.learning_rates()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        launched = session.steps.launch(pair, 6, **rates, next_pair=_no_pair)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert launched.settle().values["pixel"].item() > 0
