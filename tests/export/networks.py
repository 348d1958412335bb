"""Small networks for exported files: random weights everywhere, so that every part shows in the result."""

from typing import Any

import torch
from torch import nn

from sr_engine.models.generator import Generator

LAYOUTS: dict[str, dict[str, Any]] = {
    "convolutions": {"scale": 4, "preset": "nano", "stages": 1, "width": 8},
    "steered": {"scale": 3, "preset": "tiny", "stages": 1, "width": 8, "film": True, "steer": True},
    "dense": {"scale": 2, "preset": "small", "stages": 1, "units": 1, "width": 16, "heads": 2, "window": 8},
    "resampler": {"scale": 3, "preset": "resampler"},
    "same size": {"scale": 1, "preset": "tiny", "stages": 1, "width": 8},
}
LAYOUTS["dense"]["kernel_channels"] = 4
LAYOUTS["topk"] = {**LAYOUTS["dense"], "routing": "topk", "share": 0.4}


def network(layout: str, seed: int = 0) -> Generator:
    """A generator of this layout, not folded."""
    torch.manual_seed(seed)
    net = Generator(**LAYOUTS[layout])
    for parameter in net.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return net.eval()
