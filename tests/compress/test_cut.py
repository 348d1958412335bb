"""A cut network computes what the whole one does without the channels that went."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import sr_engine.compress.groups as groups
from sr_engine.compress import Axis, Cut, Place, axes, choose, cut_network, cut_state, importance
from sr_engine.compress.generator import generator_axes
from sr_engine.compress.groups import spec_of
from sr_engine.layers.reparam import RepConv3x3
from sr_engine.models.files import load_model, save_model
from sr_engine.models.generator import Generator
from tests.compress.masks import without
from tests.compress.networks import NETWORKS, awake

ATOL = 1e-12


def uneven(axis: Axis) -> tuple[int, ...]:
    """About two thirds of an axis, at no regular distance."""
    return tuple(index for index in range(axis.size) if index % 7 not in (1, 3) and index != axis.size - 1) or (0,)


def cut_of(net: Generator, *names: str) -> Cut:
    """A cut through these axes, or all."""
    kept = {a.name: uneven(a) if not names or a.name in names else tuple(range(a.size)) for a in axes(net)}
    return Cut(kept, 2, 1, 0.5, "none")


def picture() -> Tensor:
    return torch.rand(1, 3, 7, 10, generator=torch.Generator().manual_seed(3)).double()


@torch.no_grad()
def difference(net: Generator, cut: Cut, *, train: bool = False) -> float:
    expected = without(net, dict(cut.kept)).train(train)(picture())
    return float((cut_network(net, cut).train(train)(picture()) - expected).abs().max())


def test_there_is_an_axis_of_every_kind() -> None:
    kinds = {name: {axis.kind for axis in axes(awake(**arguments))} for name, arguments in NETWORKS.items()}
    assert kinds == {
        "dense": {"inner", "width"},
        "aware": {"inner", "width"},
        "mixing": {"hidden", "heads", "width"},
        "without attention": {"hidden", "width"},
    }


@torch.no_grad()
def test_the_cut_is_exact_in_every_axis(net: Generator) -> None:
    net.eval()
    whole = net(picture())
    for axis in axes(net):
        cut = cut_of(net, axis.name)
        assert difference(net, cut) < ATOL, axis.name
        assert float((cut_network(net, cut).eval()(picture()) - whole).abs().max()) > 1e-4, f"{axis.name} has no effect"


@pytest.mark.parametrize("train", [False, True])
def test_the_cut_is_exact_in_all_axes_together(net: Generator, train: bool) -> None:
    assert difference(net, cut_of(net), train=train) < ATOL


class Shifted(Place):
    """A place that takes the next index instead."""

    def positions(self, kept: tuple[int, ...]) -> Tensor:  # pyright: ignore
        size = self.limit or max(kept) + 2
        return super().positions(tuple(sorted((index + 1) % size for index in kept if index < size)))


def test_every_place_matters(net: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index map that is off by one in a single tensor is found by these tests."""
    net.eval()
    cut = cut_of(net)
    true = generator_axes(net)
    for position, axis in enumerate(true):
        for index, place in enumerate(axis.places):
            places = (*axis.places[:index], Shifted(**vars(place)), *axis.places[index + 1 :])
            wrong = [*true[:position], replace(axis, places=places), *true[position + 1 :]]
            monkeypatch.setattr(groups, "generator_axes", lambda _, wrong=wrong: wrong)
            assert difference(net, cut) > 1e-6, (axis.name, place)


def test_the_state_of_the_smaller_network_is_the_cut_state(net: Generator) -> None:
    cut = cut_of(net)
    state, expected = cut_network(net, cut).state_dict(), cut_state(net, cut, net.state_dict())
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


def test_form_mode_and_description_stay(net: Generator) -> None:
    for mode in (True, False):
        smaller = cut_network(net.train(mode), cut_of(net))
        assert smaller.training is mode
        assert any(isinstance(m, RepConv3x3) for m in smaller.modules()) is any(
            isinstance(m, RepConv3x3) for m in net.modules()
        )
    assert next(smaller.parameters()).dtype == torch.float64
    assert smaller.spec.parameters < net.spec.parameters
    assert smaller.spec.training["pruned"]["parameters_before"] == 2


def test_an_average_is_cut_with_its_own_compensation(net: Generator) -> None:
    torch.manual_seed(5)
    average = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in net.state_dict().items()}
    cut = cut_of(net)
    smaller = cut_network(net, cut).eval()
    smaller.load_state_dict(cut_state(net, cut, average))
    net.load_state_dict(average)
    with torch.no_grad():
        expected = without(net.eval(), dict(cut.kept))(picture())
        assert float((smaller(picture()) - expected).abs().max()) < ATOL


def test_moments_are_slices_aligned_with_the_weights() -> None:
    net = awake(**NETWORKS["dense"])
    cut = cut_of(net)
    smaller = dict(cut_network(net, cut).named_parameters())
    own = {name: 2 * parameter.detach() for name, parameter in net.named_parameters()}
    given = {**own, "step": torch.tensor(7.0), "body.0.convs.0.bias": torch.tensor(3.0), "other": torch.ones(4)}
    moments = cut_state(net, cut, given, moments=True)
    assert moments["step"] is given["step"]
    assert moments["other"] is given["other"]
    assert moments["body.0.convs.0.bias"] is given["body.0.convs.0.bias"]
    out, into = list(cut.kept["body.1.inner0"]), list(cut.kept["width"])
    plain = net.get_parameter("body.1.convs.0.weight").detach()[out][:, into]
    assert torch.equal(moments["body.1.convs.0.weight"], 2 * plain)
    assert not torch.equal(smaller["body.1.convs.0.weight"], plain), "wide channels that go are part of the weight"
    for name, parameter in smaller.items():
        if name == "body.0.convs.0.bias":
            continue
        assert moments[name].shape == parameter.shape, name
        if not (name.startswith("body") and name.endswith("weight")):
            assert torch.equal(moments[name], 2 * parameter), name


def test_it_trains_and_can_be_saved_loaded_and_pruned_again(net: Generator, tmp_path) -> None:
    net = net.float()
    first = choose(net, importance(net, criterion="l1"), 0.3)
    smaller = cut_network(net, first)
    assert smaller.spec.parameters == first.parameters_after
    save_model(tmp_path / "a.safetensors", smaller)
    again = load_model(tmp_path / "a.safetensors", fold=False)
    x = picture().float()
    assert torch.equal(again.eval()(x), smaller.eval()(x))
    assert again.spec == smaller.spec

    optimizer = torch.optim.SGD(again.train().parameters(), lr=1e-3)
    again(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in again.parameters())
    optimizer.step()

    second = choose(again, importance(again, criterion="l2"), 0.3)
    smallest = cut_network(again, second)
    assert second.parameters_before == first.parameters_after
    assert spec_of(smallest).parameters == second.parameters_after < first.parameters_after
    assert spec_of(smallest).training["pruned"]["earlier"]["parameters_before"] == first.parameters_before
    assert smallest(x).isfinite().all()


def test_the_random_generator_is_left_alone() -> None:
    net = awake(**NETWORKS["mixing"])
    before = torch.get_rng_state()
    cut_network(net, choose(net, importance(net, criterion="l1"), 0.3))
    assert torch.equal(before, torch.get_rng_state())


def test_frozen_weights_stay_frozen() -> None:
    net = awake(**NETWORKS["dense"])
    net.stem.requires_grad_(False)
    smaller = cut_network(net, cut_of(net))
    assert [n for n, p in smaller.named_parameters() if not p.requires_grad] == ["stem.weight", "stem.bias"]


@pytest.mark.gpu
def test_a_network_on_a_gpu_is_cut_there_as_on_a_cpu() -> None:
    net = awake(**NETWORKS["mixing"]).float()
    cut = choose(net, importance(net, criterion="l1"), 0.5)
    expected = cut_state(net, cut, net.state_dict())
    net.cuda()
    assert choose(net, importance(net, criterion="l1"), 0.5) == cut
    smaller = cut_network(net, cut)
    assert {parameter.device.type for parameter in smaller.parameters()} == {"cuda"}
    for name, tensor in smaller.state_dict().items():
        torch.testing.assert_close(tensor.cpu(), expected[name])
    averages = cut_state(net, cut, {name: tensor.cpu() for name, tensor in net.state_dict().items()})
    assert all(tensor.device.type == "cpu" for tensor in averages.values())
