"""What is chosen reaches the share asked for, in sizes that hardware likes, and never empties an axis."""

import functools

import pytest
import torch
from torch import Tensor

from sr_engine.compress import CompressError, Cut, axes, choose, cut_network, importance
from sr_engine.models.generator import Generator
from tests.compress.networks import NETWORKS, awake


@functools.cache
def scored(preset: str) -> tuple[Generator, dict[str, Tensor]]:
    torch.manual_seed(0)
    net = Generator(scale=4, preset=preset).fold()  # pyright: ignore[reportArgumentType]
    return net, importance(net, criterion="l1")


@pytest.mark.parametrize("preset", ["nano", "tiny", "small"])
@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9])
def test_the_ratio_is_reached(preset: str, ratio: float) -> None:
    net, scores = scored(preset)
    cut = choose(net, scores, ratio)
    smaller = cut_network(net, cut)
    assert smaller.spec.parameters == cut.parameters_after == sum(p.numel() for p in smaller.parameters())
    assert net.spec.parameters == cut.parameters_before
    assert cut.ratio == pytest.approx(ratio, abs=0.03)
    assert cut.asked == ratio


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("ratio", [0.2, 0.35, 0.5, 0.8])
def test_sizes_are_multiples_of_eight_and_no_axis_is_emptied(preset: str, ratio: float) -> None:
    net, scores = scored(preset)
    kept = choose(net, scores, ratio).kept
    for axis in axes(net):
        assert len(kept[axis.name]) >= axis.size / 4 or axis.kind == "heads"
        assert len(kept[axis.name]) % (1 if axis.kind == "heads" else 8) == 0, axis.name
        assert list(kept[axis.name]) == sorted(set(kept[axis.name]))
        assert len(kept[axis.name]) >= 1


def test_inner_channels_first_then_heads_then_width() -> None:
    net, scores = scored("small")
    sizes = {
        ratio: {axis.name: len(choose(net, scores, ratio).kept[axis.name]) for axis in axes(net)}
        for ratio in (0.2, 0.35, 0.5)
    }
    heads = {
        ratio: sum(size for name, size in found.items() if name.endswith("heads")) for ratio, found in sizes.items()
    }
    assert (heads[0.2], sizes[0.2]["width"]) == (12, 48)
    assert heads[0.35] < 12
    assert sizes[0.35]["width"] == 48
    assert sizes[0.5]["width"] == 32
    assert all(found["body.0.units.0.hidden"] < 72 for found in sizes.values())


def test_the_least_important_go() -> None:
    net = awake(**{**NETWORKS["dense"], "width": 32})
    scores = {axis.name: torch.ones(axis.size).double() for axis in axes(net)}
    scores["body.1.inner0"][3:11] = 0.1
    cut = choose(net, scores, 0.06)
    assert cut.kept["body.1.inner0"] == (0, 1, 2, *range(11, 32))
    assert all(len(kept) == 32 for name, kept in cut.kept.items() if name != "body.1.inner0")


def test_the_large_kernel_loses_its_share_of_the_width() -> None:
    net, scores = scored("small")
    cut = choose(net, scores, 0.5)
    assert (len(cut.kept["width"]), sum(index < 12 for index in cut.kept["width"])) == (32, 8)
    assert cut_network(net, cut).spec.arguments["kernel_channels"] == 8


def test_equal_scores_give_one_answer() -> None:
    net, _ = scored("tiny")
    scores = {axis.name: torch.zeros(axis.size).double() for axis in axes(net)}
    cuts: list[Cut] = [choose(net, scores, 0.5) for _ in range(2)]
    assert cuts[0] == cuts[1]
    assert cuts[0].kept["width"] == tuple(range(24))


@pytest.mark.parametrize("ratio", [0.0, -0.1, 0.91, 1.0, float("nan")])
def test_a_ratio_out_of_range(ratio: float) -> None:
    net, scores = scored("tiny")
    with pytest.raises(CompressError, match=r"ratio must be above 0 and at most 0.9, .* got"):
        choose(net, scores, ratio)


def test_more_than_the_network_can_give() -> None:
    """Most of this one is its upsampler's steering."""
    net = awake(preset="nano", width=8, stages=1, steer=True, features=400)
    with pytest.raises(CompressError, match=r"ratio 0.8 is more than .* at most 0.\d+ of [\d,]+ parameters"):
        choose(net, importance(net, criterion="l1"), 0.8)
