"""Whole networks that benchmarks time: our presets, a plain rival, and those of other people with their swapped copies.

In a smoke run each is a stage or two blocks, and narrow.
"""

import copy
import signal
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.devices import SMOKE

ARCHITECTURES = "spandrel.architectures"
COMPILING = 60  # seconds that torch.compile may take for a network


def generator(preset: str, scale: int, where: str, *, fold: bool = True) -> nn.Module:
    """One of our presets as it upscales: evaluated, folded unless said otherwise, channels last, untrained."""
    from sr_engine.models.generator import Generator
    from sr_engine.models.presets import LAYOUTS

    torch.manual_seed(0)
    less: dict[str, Any] = {"stages": 1, "units": 1, "width": 16, "heads": 1, "kernel_channels": 4, "window": 8}
    full: Any = LAYOUTS[preset]  # pyright: ignore[reportArgumentType]
    layout = {key: min(value, getattr(full, key)) for key, value in less.items()} if SMOKE else {}
    net = Generator(scale=scale, preset=preset, **layout).eval()  # pyright: ignore[reportArgumentType]
    for parameter in net.parameters():  # what starts at zero would hide the rest from every comparison
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.01)
    return (net.fold() if fold else net).to(where).to(memory_format=torch.channels_last)


def plain(width: int, convolutions: int, scale: int, where: str) -> nn.Module:
    """3x3 convolutions with ReLUs and a pixel shuffle, nothing else."""
    torch.manual_seed(0)
    widths = [3] + [width] * (convolutions + 1)
    body: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        body += [nn.Conv2d(narrow, wide, 3, padding=1), nn.ReLU(inplace=True)]
    net = nn.Sequential(*body, nn.Conv2d(width, 3 * scale * scale, 3, padding=1), nn.PixelShuffle(scale))
    return net.eval().to(where).to(memory_format=torch.channels_last)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def flops(net: nn.Module, where: str, height: int, width: int) -> int:
    """Operations of the convolutions and products that torch counts, for a picture of this size.

    Counted on a square of whole windows and scaled, as the work grows with the pixels; attention is not counted.
    """
    side = 32 if SMOKE else 64
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, side, side, device=where))
    return counter.get_total_flops() * height * width // (side * side)


def compiled(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Through torch.compile; the first call raises TimeoutError where compiling takes longer than COMPILING."""
    program = torch.compile(net, dynamic=False, backend="eager" if SMOKE else "inductor")
    ready = False

    def call(x: Tensor) -> Tensor:
        nonlocal ready
        if ready:
            return program(x)
        before = signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, COMPILING, 1)  # again and again, as compilers catch exceptions
        try:
            result = program(x)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        ready = True
        return result

    return call


def _too_long(_signal: int, _frame: Any) -> None:
    raise TimeoutError(f"compiling takes longer than {COMPILING} s")


def pair(name: str, native: int, where: str) -> tuple[nn.Module, nn.Module, str]:
    """A network of another project made for a size, its accelerated copy, and what was swapped."""
    from sr_engine.dropin import accelerate

    original = COMMUNITY[name](native).to(where)
    fused, report = accelerate(copy.deepcopy(original))
    assert report.swapped
    assert not report.left
    return original, fused, report.summary()


def _swinir(width: int, groups: int, native: int, scale: int = 4) -> nn.Module:
    return _build(
        f"{ARCHITECTURES}.SwinIR.__arch.SwinIR.SwinIR",
        img_size=native,
        embed_dim=width,
        depths=[6] * groups,
        num_heads=[6] * groups,
        window_size=8,
        mlp_ratio=2,
        upscale=scale,
        upsampler="pixelshuffledirect" if width == 60 else "pixelshuffle",
    )


def _hat(width: int, native: int) -> nn.Module:
    """HAT-S at width 144, HAT at 180."""
    return _build(
        f"{ARCHITECTURES}.HAT.__arch.HAT.HAT",
        img_size=native,
        embed_dim=width,
        depths=[6] * 6,
        num_heads=[6] * 6,
        window_size=16,
        compress_ratio=24 if width == 144 else 3,
        squeeze_factor=24 if width == 144 else 30,
        conv_scale=0.01,
        overlap_ratio=0.5,
        mlp_ratio=2,
        upscale=4,
        upsampler="pixelshuffle",
        resi_connection="1conv",
    )


def _dat_light() -> nn.Module:
    return _build(
        f"{ARCHITECTURES}.DAT.__arch.DAT.DAT",
        img_size=64,
        embed_dim=60,
        split_size=[8, 32],
        depth=[18],
        num_heads=[6],
        expansion_factor=2,
        resi_connection="3conv",
        upscale=4,
        upsampler="pixelshuffledirect",
    )


COMMUNITY: dict[str, Callable[[int], nn.Module]] = {
    "SwinIR-light": lambda native: _swinir(60, 4, native),
    "SwinIR": lambda native: _swinir(180, 6, native),
    "SwinIR x2": lambda native: _swinir(180, 6, native, 2),
    "HAT-S": lambda native: _hat(144, native),
    "HAT": lambda native: _hat(180, native),
    "DAT-light": lambda _: _dat_light(),
}


def _build(path: str, **arguments: Any) -> nn.Module:
    """A network whose bias tables are far from their initial values."""
    module, _, name = path.rpartition(".")
    if SMOKE:  # one group of two blocks, one of them shifted
        fewer = {"depths": [2], "depth": [2], "num_heads": [6], "embed_dim": 48}
        arguments |= {key: value for key, value in fewer.items() if key in arguments}
    torch.manual_seed(0)
    net = getattr(import_module(module), name)(**arguments)
    with torch.no_grad():
        for label, parameter in net.named_parameters():
            if label.endswith("relative_position_bias_table"):
                parameter.normal_(0, 1.5)
    return net
