"""`accelerate` on whole DRCT networks: SwinIR's blocks at five widths, with heads as they happen to divide them."""

from typing import Any

import pytest

from tests.zoo.modules import public, randomise
from tests.zoo.networks import check_network

drct = public("spandrel.architectures.DRCT.__arch.drct_arch")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def make_drct(**changes: Any) -> Any:
    arguments = {"img_size": 16, "embed_dim": 20, "gc": 6, "depths": (1,), "num_heads": (2,), "window_size": 8}
    network = drct.DRCT(**{**arguments, "mlp_ratio": 1, "upscale": 2, "upsampler": "pixelshuffle", **changes})
    randomise(network)
    return network.eval()


@pytest.mark.parametrize(
    ("changes", "sizes", "head_dims"),
    [
        ({}, [(16, 16), (24, 16), (8, 24), (8, 8)], [10, 13, 16, 19, 22]),
        (
            {"embed_dim": 180, "gc": 32, "num_heads": (6,), "window_size": 4, "img_size": 8},
            [(8, 8), (12, 8), (4, 12), (4, 4)],
            [30, 53, 122, 46, 77],
        ),
    ],
)
def test_drct(changes, sizes, head_dims):
    network = make_drct(**changes)
    group = network.layers[0]
    blocks = [getattr(group, f"swin{i}") for i in range(1, 6)]
    assert [block.dim // block.num_heads for block in blocks] == head_dims
    assert [bool(block.shift_size) for block in blocks] == [False, True, False, True, False]
    report = check_network(network, 5, sizes)
    assert {layer.family for layer in report.layers} == {"SwinIR block"}
