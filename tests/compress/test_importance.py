"""Scores are what a group's removal does to the loss."""

import copy

import pytest
import torch
from torch import Tensor

from sr_engine.compress import Axis, CompressError, axes, importance
from sr_engine.models.generator import Generator
from tests.compress.masks import without
from tests.compress.networks import NETWORKS, awake


def batches(count: int = 1) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(7)
    return [(torch.rand(2, 3, 8, 8).double(), torch.rand(2, 3, 16, 16).double()) for _ in range(count)]


@torch.no_grad()
def loss(net: Generator, lr: Tensor, hr: Tensor) -> float:
    return float(((net.eval()(lr) - hr).square() + 1e-6).sqrt().mean())


def quieter(net: Generator, axis: Axis, index: int, factor: float) -> None:
    """Scale what reads an index, so that its removal is a small change."""
    with torch.no_grad():
        for place in axis.places:
            if place.reads and (place.limit is None or index < place.limit):
                tensor = net.get_parameter(place.parameter)
                positions = place.positions((index,))
                tensor.index_copy_(place.dim, positions, factor * tensor.index_select(place.dim, positions))


@pytest.mark.parametrize("name", NETWORKS)
def test_taylor_is_the_squared_change_of_the_loss(name: str) -> None:
    """To first order: what reads the group is scaled down first. Attention's norm reads the width too, unweighted."""
    whole = awake(**NETWORKS[name]).fold()
    ((lr, hr),) = batches()
    for axis in axes(whole):
        if axis.kind == "width" and name in ("mixing",):
            continue
        for index in (0, axis.size - 1):
            net = copy.deepcopy(whole)
            quieter(net, axis, index, 1e-5)
            kept = tuple(k for k in range(axis.size) if k != index)
            change = loss(without(net, {axis.name: kept}), lr, hr) - loss(net, lr, hr)
            score = float(importance(net, [(lr, hr)])[axis.name][index])
            assert score > 0
            assert score**0.5 == pytest.approx(abs(change), rel=0.01), (axis.name, index)


def test_taylor_of_the_width_is_the_slope_of_the_loss() -> None:
    """Where attention normalises the width: along the weights that read a channel, by a central difference."""
    whole = awake(**NETWORKS["mixing"]).fold()
    ((lr, hr),) = batches()
    scores = importance(whole, [(lr, hr)])["width"]
    readers = ("expand.weight", "qkv.weight", ".conv.weight", "tail.weight", "large_kernel")
    for index in range(16):
        ends = []
        for factor in (1 + 1e-5, 1 - 1e-5):
            net = copy.deepcopy(whole)
            with torch.no_grad():
                for name, parameter in net.named_parameters():
                    if name.endswith(readers) and index < parameter.shape[1]:
                        parameter[:, index] *= factor
            ends.append(loss(net, lr, hr))
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(scores[index]) ** 0.5 == pytest.approx(abs(slope), rel=1e-3), index


def test_taylor_squares_each_batch_before_adding(net: Generator) -> None:
    two = batches(2)
    together = importance(net, two)
    apart = [importance(net, [batch]) for batch in two]
    for name, score in together.items():
        torch.testing.assert_close(score, apart[0][name] + apart[1][name])


def test_both_forms_have_the_same_scores() -> None:
    for criterion in ("taylor", "l1", "l2"):
        net = awake(**NETWORKS["mixing"])
        scores = importance(net, batches(), criterion)
        for name, folded in importance(net.fold(), batches(), criterion).items():
            torch.testing.assert_close(folded, scores[name], rtol=1e-6, atol=0)


def test_norms_are_those_of_all_weights_of_a_channel() -> None:
    net = awake(**NETWORKS["dense"]).fold()
    first, second = (net.get_parameter(f"body.0.convs.{k}.weight").detach() for k in (0, 1))
    bias = net.get_parameter("body.0.convs.0.bias").detach()
    weights = torch.cat([first.flatten(1), second.transpose(0, 1).flatten(1), bias[:, None]], dim=1)
    torch.testing.assert_close(importance(net, criterion="l1")["body.0.inner0"], weights.abs().sum(1))
    torch.testing.assert_close(importance(net, criterion="l2")["body.0.inner0"], weights.norm(dim=1))


def test_the_network_is_left_as_it_was(net: Generator) -> None:
    before = copy.deepcopy(net.state_dict())
    net.train()
    importance(net, batches())
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_routing_does_not_hide_windows() -> None:
    net = awake(**NETWORKS["mixing"])
    dense = importance(net, batches())
    routed = importance(net.set_routing("topk", 0.25), batches())
    assert all(torch.equal(dense[name], routed[name]) for name in dense)
    assert net.layout.routing == "topk"


def test_errors() -> None:
    net = awake(**NETWORKS["dense"])
    with pytest.raises(CompressError, match=r"criterion 'tailor' is unknown .did you mean 'taylor'"):
        importance(net, batches(), "tailor")
    with pytest.raises(CompressError, match="at least one batch"):
        importance(net, [])
    with pytest.raises(CompressError, match="not finite"):
        importance(net, [(torch.full((1, 3, 8, 8), torch.nan).double(), torch.zeros(1, 3, 16, 16).double())])
    with pytest.raises(CompressError, match="nothing that pruning can remove"):
        importance(Generator(scale=2, preset="resampler"), criterion="l1")
    with pytest.raises(CompressError, match="a Linear cannot be pruned"):
        axes(torch.nn.Linear(2, 2))
