"""Small networks of every kind of part."""

import torch
from torch import nn

from sr_engine.models.generator import Generator

NETWORKS: dict[str, dict[str, object]] = {
    "dense": {"preset": "tiny", "width": 16, "stages": 2},
    "aware": {"preset": "nano", "width": 16, "stages": 2, "steer": True, "film": True},
    "mixing": {
        "preset": "small",
        "width": 16,
        "stages": 2,
        "units": 2,
        "kernel_size": 5,
        "kernel_channels": 8,
        "window": 4,
        "heads": 4,
    },
    "without attention": {"preset": "small", "width": 16, "stages": 1, "units": 2, "kernel_channels": 0, "window": 0},
}


def awake(**arguments: object) -> Generator:
    """A network in which every part has an effect, in float64."""
    torch.manual_seed(1)
    net = Generator(scale=2, **arguments).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.2)
            elif bool((parameter == 1).all()):
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return net
