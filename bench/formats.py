"""A network in other number formats: as the engine computes, and emulated for hardware that is not there.

Formats of 8 bits are given to the convolutions that a network calls as modules: the stem, the body and the tail. The
classical upsampler, content statistics, activations and sums stay in fp32 in every format, as they do under autocast.
Emulated is the best that hardware can do: inputs and weights of a convolution are rounded to the format, products and
sums are exact to fp32, and nothing is rounded on the way out.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sr_engine.infer.upscaler import Upscaler

Pixels = NDArray[np.uint8]

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max  # 448
QUANTILE = 1e-4  # of the values of a picture that lie beyond a clipped range, at each end


@dataclass(frozen=True)
class Format:
    """A row of the table.

    up: pictures through the network in this format. how: what computes it. size: of its file in bytes, None where
    there is none. timed: whether its time says something; that of an emulation does not.
    """

    name: str
    how: str
    up: Upscaler
    size: int | None = None
    timed: bool = True


class Range(NamedTuple):
    """Of the inputs of a convolution over the calibration pictures."""

    low: float
    high: float


Ranges = dict[str, Range]
Round = Callable[[Tensor, Range], Tensor]


def upscaler(net: nn.Module | str | Path, dtype: torch.dtype = torch.float32) -> Upscaler:
    """Whole pictures, on the CPU. fp16 is what `Upscaler` refuses there since it is slow: here its loss is wanted."""
    up = Upscaler(net, device="cpu", precision="fp32", tile="off")
    up.passes.dtype = dtype
    return up


def convolutions(net: nn.Module) -> list[str]:
    """Names of the convolutions that are called as modules, in the order of their calls."""
    called: dict[str, None] = {}
    with _watching(net, lambda name, _: called.setdefault(name)), torch.no_grad():
        net(torch.zeros(1, 3, 16, 16))
    return list(called)


def calibrated(net: nn.Module, pictures: Iterable[Pixels]) -> dict[str, Ranges]:
    """Ranges of the inputs of `convolutions`: `largest` holds all values, `clipped` all but QUANTILE of a picture's."""
    found: dict[str, Ranges] = {"largest": {}, "clipped": {}}

    def widen(name: str, x: Tensor) -> None:
        values = x.flatten().sort().values
        beyond = int(QUANTILE * (len(values) - 1))
        for kind, skip in (("largest", 0), ("clipped", beyond)):
            here = Range(values[skip].item(), values[-1 - skip].item())
            known = found[kind].get(name, here)
            found[kind][name] = Range(min(known.low, here.low), max(known.high, here.high))

    with _watching(net, widen), torch.no_grad():
        for picture in pictures:
            net(tensor(picture))
    return found


def emulated(net: nn.Module, ranges: Ranges, weights: Callable[[Tensor], Tensor], inputs: Round) -> nn.Module:
    """A copy of the network whose convolutions named in `ranges` compute with rounded weights and inputs."""
    net = copy.deepcopy(net)
    for name, seen in ranges.items():
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        conv.weight.data = weights(conv.weight.data)
        conv.register_forward_pre_hook(partial(_rounded_input, inputs, seen))
    return net


def inner(ranges: Ranges) -> Ranges:
    """Without the first and the last convolution."""
    names = list(ranges)[1:-1]
    return {name: ranges[name] for name in names}


def fp8_weights(weight: Tensor) -> Tensor:
    """Rounded to e4m3 times a scale for each output channel, the largest of a channel to the largest of the format."""
    return _fp8(weight, weight.abs().amax((1, 2, 3), keepdim=True))


def fp8_inputs(x: Tensor, seen: Range) -> Tensor:
    """Rounded to e4m3 times the scale of the tensor."""
    return _fp8(x, torch.tensor(max(-seen.low, seen.high)))


def int8_weights(weight: Tensor) -> Tensor:
    """Rounded to -127..127 times a scale for each output channel."""
    scale = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) / 127
    return (weight / scale).round() * scale


def int8_inputs(x: Tensor, seen: Range) -> Tensor:
    """Rounded to 256 steps of the range, in which zero is one (padding is exact)."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    scale = max(high - low, 1e-12) / 255
    zero = round(-low / scale)
    return ((x / scale).round() + zero).clamp(0, 255).sub(zero) * scale


def tensor(picture: Pixels) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) in 0..1."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255


def _fp8(x: Tensor, largest: Tensor) -> Tensor:
    scale = largest.clamp(min=1e-12) / FP8_MAX
    return (x / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8).float() * scale  # beyond it some versions of torch give NaN


def _rounded_input(inputs: Round, seen: Range, _conv: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs(args[0], seen),)


@contextmanager
def _watching(net: nn.Module, see: Callable[[str, Tensor], object]) -> Iterator[None]:
    """Inside, `see(name, input)` is called before each convolution."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def before(_conv: nn.Module, args: tuple[Tensor, ...]) -> None:
            see(name, args[0])

        return before

    convs = [(name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d)]
    handles = [conv.register_forward_pre_hook(hook(name)) for name, conv in convs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
