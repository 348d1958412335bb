"""Layouts that pruning leaves: which lists are possible."""

import pytest
import torch

from sr_engine.errors import EngineError
from sr_engine.models.generator import Generator
from sr_engine.models.presets import LAYOUTS

DENSE: dict[str, object] = {"preset": "tiny", "stages": 2, "width": 8}
MIXING: dict[str, object] = {"preset": "small", "stages": 2, "units": 2, "width": 8, "kernel_channels": 4, "window": 4}


def test_even_lists_are_the_even_network() -> None:
    for plain, lists in (
        (DENSE, {"inner": [[8, 8], [8, 8]]}),
        ({**MIXING, "heads": 2}, {"hidden": [[12, 12], [12, 12]], "heads": [2, 2], "head_dim": 4}),
    ):
        even, listed = Generator(scale=2, **plain), Generator(scale=2, **{**plain, **lists})  # pyright: ignore
        shapes = [{name: tensor.shape for name, tensor in net.state_dict().items()} for net in (even, listed)]
        assert shapes[0] == shapes[1]
        assert even.spec.parameters == listed.spec.parameters


def test_uneven_lists_shape_the_layers() -> None:
    net = Generator(scale=2, **{**MIXING, "hidden": [[3, 5], [7, 2]], "heads": [3, 1], "head_dim": 5})  # pyright: ignore
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert shapes["body.0.units.1.spread.weight"] == (10, 1, 3, 3)
    assert shapes["body.1.units.0.project.weight"] == (8, 7, 1, 1)
    assert shapes["body.0.attention.qkv.weight"] == (45, 8)
    assert shapes["body.1.attention.project.weight"] == (8, 5)
    assert net(torch.rand(1, 3, 9, 6)).shape == (1, 3, 18, 12)
    dense = Generator(scale=2, **{**DENSE, "inner": [[3, 5], [7, 2]]})  # pyright: ignore
    assert [
        tuple(tensor.shape[:2]) for name, tensor in dense.state_dict().items() if name.endswith("convs.1.weight")
    ] == [
        (5, 3),
        (2, 7),
    ]


def test_an_even_network_says_nothing_of_lists() -> None:
    """So that files of networks that were never pruned are read by versions that know no pruning."""
    assert not {"inner", "hidden", "head_dim"} & Generator(scale=2).spec.arguments.keys()
    assert all(layout.inner is layout.hidden is layout.head_dim is None for layout in LAYOUTS.values())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({**DENSE, "inner": [[8, 8]]}, "inner must be 2 lists (stages) of 2 numbers of at least 1, got [[8, 8]]"),
        ({**DENSE, "inner": [[8, 8], [8]]}, "inner must be 2 lists"),
        ({**DENSE, "inner": [[8, 0], [8, 8]]}, "inner must be 2 lists"),
        ({**DENSE, "hidden": [[8, 8], [8, 8]]}, "hidden is for stages with units"),
        ({**DENSE, "heads": [1, 1]}, "heads can differ between stages with attention only, got [1, 1]"),
        ({**MIXING, "inner": [[8, 8], [8, 8]]}, "inner is for stages of dense convolutions (units: 0)"),
        ({**MIXING, "hidden": [[8, 8], [8]]}, "hidden must be 2 lists (stages) of 2 numbers (units) of at least 1"),
        ({**MIXING, "heads": [1, 2, 1]}, "heads must be one number or 2 (stages), each at least 1, got [1, 2, 1]"),
        ({**MIXING, "heads": [1, 0]}, "heads must be one number or 2"),
        ({**MIXING, "heads": [1, 2]}, "heads that differ between stages need head_dim, got [1, 2]"),
        ({**MIXING, "heads": 2, "head_dim": 0}, "head_dim must be at least 1, got 0"),
        ({**MIXING, "heads": 0, "head_dim": 2}, "heads must be at least 1, got 0"),
        ({**MIXING, "heads": 3}, "width (8) must be a multiple of heads, got 3"),
    ],
    ids=str,
)
def test_impossible_lists(arguments: dict, sentence: str) -> None:
    with pytest.raises(EngineError) as error:
        Generator(scale=2, **arguments)
    assert sentence in str(error.value)
    assert str(error.value).startswith("generator: ")
