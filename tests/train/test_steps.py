"""What one iteration does to whom: passes through the discriminator, its cadence, and steps that must not happen."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sr_engine.losses.finite import NonFiniteLossError
from sr_engine.train.distributed import World
from sr_engine.train.learner import NonFiniteGradientError
from sr_engine.train.session import Session
from sr_engine.train.steps import Pair, first_heard

WORLD = World(torch.device("cpu"))


def _pair(seed: int = 0) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    return Pair(torch.rand(4, 3, 12, 12, generator=generator), torch.rand(4, 3, 24, 24, generator=generator))


def _run(session: Session, it: int, pair: Pair | None = None, **options: Any) -> dict[str, Tensor]:
    options = {"lr_g": 1e-3, "lr_d": 1e-3, "next_pair": _pair, **options}
    return session.steps.run(pair or _pair(), it, **options).values


def _weights(session: Session) -> list[Tensor]:
    steps = session.steps
    nets = [steps.generator.net, steps.ema.net, *([steps.discriminator.net] if steps.discriminator else [])]
    return [value.detach().clone() for net in nets for value in net.parameters()]


def _changed(before: list[Tensor], after: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


class Spy:
    """Records the passes through a discriminator: batch, whether its weights and the graph are live."""

    def __init__(self, session: Session) -> None:
        assert session.steps.discriminator is not None
        self.net = session.steps.discriminator.net
        self.passes: list[tuple[int, bool, bool]] = []
        self.net.register_forward_pre_hook(self._note)

    def _note(self, _net: object, inputs: tuple[Tensor]) -> None:
        live = all(p.requires_grad for p in self.net.parameters())
        self.passes.append((len(inputs[0]), live, torch.is_grad_enabled()))


def test_the_fake_is_seen_once_for_gan_and_feature_matching_together(make_config):
    session = Session(make_config(gan=True), WORLD)
    spy = Spy(session)
    values = _run(session, 10)
    assert {"pixel", "gan", "feature_matching", "d_loss"} <= values.keys()
    # The generator's step: the fake with a graph through frozen weights, the original without a graph.
    # The discriminator's own: both in one pass.
    assert spy.passes == [(4, False, True), (4, False, False), (8, True, True)]
    assert all(p.requires_grad for p in spy.net.parameters())


def test_the_discriminator_is_left_alone_until_its_time(make_config):
    session = Session(make_config("training.net_d_init_iters=2", gan=True), WORLD)
    assert first_heard(session.bank) == 3  # a ramp from 0 that starts at 2
    spy = Spy(session)
    trained = []
    for it in range(6):
        passes = len(spy.passes)
        values = _run(session, it)
        trained.append("d_loss" in values)
        assert (len(spy.passes) > passes) == trained[-1]
        assert "pixel" in values
    assert trained == [False, True, True, True, True, True]


def test_the_generator_waits_when_it_would_hear_an_untrained_discriminator(make_config):
    config = make_config("training.net_d_init_iters=2", "losses.gan.loss_weight=0.1", gan=True)
    session = Session(config, WORLD)
    moved = []
    for it in range(4):
        before = session.steps.generator.net.state_dict()["first.weight"].clone()
        values = _run(session, it)
        moved.append(not torch.equal(before, session.steps.generator.net.state_dict()["first.weight"]))
        assert ("gan" in values) == moved[-1]
        assert "d_loss" in values
    assert moved == [False, False, True, True]


def test_each_further_update_of_the_discriminator_takes_a_batch_of_its_own(make_config):
    session = Session(make_config("training.net_d_iters=3", gan=True), WORLD)
    spy, taken = Spy(session), []

    def next_pair() -> Pair:
        taken.append(1)
        return _pair(len(taken))

    _run(session, 10, next_pair=next_pair)
    assert len(taken) == 2
    assert [size for size, live, _ in spy.passes if live] == [8, 8, 8]


@pytest.mark.parametrize("gan", [False, True])
def test_accumulation_gives_the_gradient_of_the_whole_batch(make_config, gan):
    # Charbonnier averages over equal parts, so the parts' mean is the whole; SGD makes the update linear in it.
    options = ("training.optim_g={type: SGD, lr: 1.0}", "network_g.dropout=0.0", "training.grad_clip=null")
    options += ("training.optim_d={type: SGD, lr: 1.0}",) if gan else ()
    updates = []
    for accumulate in (1, 2):
        session = Session(make_config(*options, f"training.accumulate={accumulate}", gan=gan), WORLD)
        before = _weights(session)
        _run(session, 10, lr_g=1.0, lr_d=1.0)
        updates.append([b - a for a, b in zip(before, _weights(session), strict=True)])
    assert any(u.abs().max() > 1e-3 for u in updates[0])
    for whole, parts in zip(*updates, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-5)


def test_a_loss_that_is_not_finite_is_named_and_changes_nothing(make_config):
    session = Session(make_config(gan=True), WORLD)
    _run(session, 10)
    before, moments = _weights(session), str(session.steps.generator.optimizer.state_dict())
    bad = Pair(_pair().lr, torch.full((4, 3, 24, 24), torch.nan))
    with pytest.raises(NonFiniteLossError, match="pixel is nan"):
        _run(session, 11, bad)
    assert not _changed(before, _weights(session))
    assert str(session.steps.generator.optimizer.state_dict()) == moments
    assert all(p.grad is None for p in session.steps.generator.parameters)
    _run(session, 11)
    assert _changed(before, _weights(session))


def test_a_gradient_that_is_not_finite_changes_nothing_either(make_config):
    session = Session(make_config(), WORLD)
    session.steps.generator.parameters[0].register_hook(lambda gradient: gradient * torch.inf)
    before = _weights(session)
    with pytest.raises(NonFiniteGradientError, match="gradient of the generator"):
        _run(session, 0)
    assert not _changed(before, _weights(session))


def test_the_generators_gradient_comes_from_every_loss(make_config):
    gradients = []
    for gan in (False, True):
        session = Session(make_config("network_g.dropout=0.0", gan=gan), WORLD)
        seen: list[Tensor] = []
        session.steps.generator.parameters[0].register_hook(seen.append)
        _run(session, 10)
        gradients.append(seen[0])
    assert not torch.allclose(*gradients, rtol=1e-3)


def test_bf16_agrees_with_fp32_and_keeps_its_weights_in_fp32(make_config):
    values = []
    for precision in ("fp32", "bf16"):
        session = Session(make_config(f"training.precision={precision}", "network_g.dropout=0.0"), WORLD)
        values.append(_run(session, 0)["pixel"].item())
        assert all(p.dtype == torch.float32 for p in session.steps.generator.parameters)
    assert values[0] != values[1]
    assert values[0] == pytest.approx(values[1], rel=1e-2)
