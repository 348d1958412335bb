"""Optimisers by name, gradient norms, and the moving average of the weights."""

import pytest
import torch
from torch import nn

from sr_engine.config.optimizers import optimizer_names
from sr_engine.errors import ConfigError
from sr_engine.train.ema import Ema
from sr_engine.train.optim import build_optimizer, gradient_norm, set_learning_rate


def _layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


# Muon takes matrices only, SparseAdam sparse gradients only.
DENSE = [name for name in optimizer_names() if name not in ("Muon", "SparseAdam")]


@pytest.mark.parametrize("name", DENSE)
def test_every_optimiser_of_torch_steps(name):
    layer = _layer()
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(name, {"lr": 0.1}, layer.parameters())
    layer(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, layer.weight)


def test_adamw_takes_a_list_of_betas_and_is_fused():
    optimizer = build_optimizer("AdamW", {"lr": 1e-3, "betas": [0.9, 0.99]}, _layer().parameters())
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    assert optimizer.param_groups[0]["fused"]


def test_frozen_parameters_are_left_out():
    layer = _layer()
    layer.bias.requires_grad_(False)
    assert [len(group["params"]) for group in build_optimizer("SGD", {"lr": 1.0}, layer.parameters()).param_groups] == [
        1
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("AdmaW", {}, "unknown optimizer type 'AdmaW'"),
        ("LBFGS", {}, "unknown optimizer type 'LBFGS'"),
        ("AdamW", {"rl": 1e-3}, "rl"),
        ("AdamW", {"lr": -1.0}, "Invalid learning rate"),
        ("Muon", {}, "2D"),
    ],
)
def test_what_cannot_be_made_is_named(name, arguments, words):
    with pytest.raises(ConfigError, match=words):
        build_optimizer(name, arguments, _layer().parameters())


def _gradient(net: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).double()


@pytest.mark.parametrize("clip", [None, 0.5, 1e6])
def test_gradient_norm_measures_before_it_clips(clip):
    layer = _layer()
    (layer(torch.ones(2, 4)) * 7.0).sum().backward()
    expected = _gradient(layer).norm().item()
    norm = gradient_norm(layer.parameters(), clip)
    assert norm.item() == pytest.approx(expected, rel=1e-6)
    assert _gradient(layer).norm().item() == pytest.approx(min(expected, clip or float("inf")), rel=1e-5)


def test_learning_rate_reaches_every_group():
    optimizer = build_optimizer("SGD", {"lr": 1.0}, _layer().parameters())
    set_learning_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] == 0.25


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3))
        self.count: torch.Tensor
        self.register_buffer("count", torch.zeros(()))


def test_ema_follows_the_formula_and_its_state_continues_it():
    torch.manual_seed(0)
    net = _Net()
    ema = Ema(net, 0.5)
    expected = net.weight.detach().double().clone()
    for t in range(1, 13):
        with torch.no_grad():
            net.weight.add_(torch.randn_like(net.weight))
            net.count.fill_(t)
        if t == 6:
            resumed = Ema(net, 0.5)
            resumed.load_state_dict(ema.state_dict())
            ema = resumed
        ema.update(net)
        decay = min(0.5, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * net.weight.detach().double()
    torch.testing.assert_close(ema.net.weight.double(), expected, rtol=0, atol=1e-6)
    assert ema.net.count == 12
    assert not ema.net.training
    assert not any(p.requires_grad for p in ema.net.parameters())
