"""`accelerate` on whole SwinIR networks."""

from typing import Any

import pytest

from tests.zoo.modules import public
from tests.zoo.networks import check_network

swinir = public("spandrel.architectures.SwinIR.__arch.SwinIR")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def make_swinir(**changes: Any) -> Any:
    arguments = {"img_size": 16, "embed_dim": 20, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8}
    return swinir.SwinIR(**{**arguments, "mlp_ratio": 2, "upscale": 2, "upsampler": "pixelshuffledirect", **changes})


@pytest.mark.parametrize("changes", [{}, {"window_size": 7, "img_size": 21, "resi_connection": "3conv"}])
def test_swinir(changes):
    check_network(make_swinir(**changes), 4, [(16, 16), (24, 16), (13, 19), (8, 8)])
