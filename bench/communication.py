"""What processes that train together send each other in a step, from the sizes of the networks: nothing is measured.

    python -m bench.communication [--scale 4]

Prints the table of docs/scale.md.
"""

import argparse

import torch
from torch import nn

from sr_engine.models.discriminators import PatchGANDiscriminator, UNetDiscriminator
from sr_engine.models.generator import Generator
from sr_engine.models.presets import LAYOUTS

# Assumed, in bytes a second and direction that a collective gets out of a link: two thirds of PCIe 4.0 x16 (31.5e9) and
# of NVLink 4 (450e9), four fifths of a network of 100 Gbit/s (12.5e9).
LINKS = {"PCIe 4.0 x16": 21e9, "NVLink 4": 300e9, "100 Gbit/s": 10e9}
RANKS = 8
_BYTES = 4  # fp32, as gradients are exchanged and weights are gathered whatever the precision


def networks(scale: int) -> dict[str, nn.Module]:
    """Every preset, and the discriminators as their default arguments make them."""
    with torch.device("meta"):
        found: dict[str, nn.Module] = {name: Generator(scale=scale, preset=name) for name in LAYOUTS}  # pyright: ignore[reportArgumentType]
    return {**found, "unet (discriminator)": UNetDiscriminator(), "patchgan (discriminator)": PatchGANDiscriminator()}


def sent(parameters: int, ranks: int, *, divided: bool = False) -> float:
    """Bytes that each rank sends in a step, and receives.

    A ring all-reduce of the gradients takes 2 (N - 1) / N of their bytes (Patarasu and Yuan 2009). With FSDP weights
    are gathered before the forward and before the backward pass, and gradients reduced and scattered: 3 (N - 1) / N.
    """
    return (3 if divided else 2) * (ranks - 1) / ranks * parameters * _BYTES


def table(scale: int = 4, ranks: int = RANKS) -> str:
    """As Markdown."""
    header = ["network", "weights in training", "MB a step, DDP", "MB a step, FSDP", *(f"ms, {name}" for name in LINKS)]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for name, net in networks(scale).items():
        count = sum(p.numel() for p in net.parameters())
        copied, divided = sent(count, ranks), sent(count, ranks, divided=True)
        shown = "copied" if "discriminator" in name else f"{divided / 1e6:.2f}"
        times = [f"{1e3 * copied / speed:.3f}" for speed in LINKS.values()]
        lines.append("| " + " | ".join([name, f"{count:,}", f"{copied / 1e6:.2f}", shown, *times]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=4, choices=(1, 2, 3, 4))
    parser.add_argument("--ranks", type=int, default=RANKS)
    arguments = parser.parse_args()
    print(table(arguments.scale, arguments.ranks))
