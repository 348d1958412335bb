"""Whether a file computes what its network computes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sr_engine.errors import ExportError

# (batch, height, width): the smallest, thin, odd, multiples of windows of 8 to 32 and not, more than one window.
SIZES = (
    (1, 1, 1),
    (1, 1, 5),
    (1, 7, 3),
    (2, 8, 8),
    (1, 16, 16),
    (1, 17, 23),
    (2, 24, 33),
    (1, 32, 32),
    (1, 31, 47),
    (1, 64, 40),
)
BOUNDS = {"fp32": 1e-5, "fp16": 2e-3}
"""Largest absolute difference from the network in float32, of values in a range of 1."""


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference of a file from its network, on a random picture of one size."""

    batch: int
    height: int
    width: int
    largest: float


def verify(net: nn.Module, path: str | Path, *, sizes: Sequence[tuple[int, int, int]] = SIZES) -> list[Difference]:
    """Run a file (.onnx in onnxruntime on the CPU, .pt2 in torch) and its network in float32 on pictures of each size.

    Args:
        net: what the file was written from.
        sizes: (batch, height, width) of the pictures.

    Raises:
        ExportError: the file does not load, or does not run at one of the sizes.
    """
    path = Path(path)
    run = _pt2(path) if path.suffix.lower() == ".pt2" else _onnx(path)
    original = _original(net)
    low, high = cast(Any, net).spec.value_range
    generator = torch.Generator().manual_seed(0)
    found = []
    for batch, height, width in sizes:
        x = low + (high - low) * torch.rand(batch, cast(Any, net).spec.channels, height, width, generator=generator)
        try:
            actual = run(x)
        except Exception as error:  # of two runtimes: anything
            raise ExportError(
                f"{path}: does not run on {batch} pictures of {height}x{width} ({str(error).splitlines()[0][:200]})."
            ) from error
        with torch.no_grad():
            expected = original(x)
        same = actual.shape == expected.shape and actual.dtype == torch.float32
        largest = (actual - expected).abs().max().item() / (high - low) if same else float("inf")
        found.append(Difference(batch, height, width, largest))
    return found


def check(net: nn.Module, file: Path, precision: str, *, name: Path) -> tuple[Difference, ...]:
    """`verify`, and the differences are within the bound of the precision.

    Raises:
        ExportError: they are not; says so of the file `name`.
    """
    bound = BOUNDS[precision]
    found = verify(net, file)
    worst = max(found, key=lambda difference: difference.largest if difference.largest == difference.largest else 1e9)
    if not worst.largest <= bound:
        raise ExportError(
            f"{name}: the exported network differs from torch by {worst.largest:.1e} at {worst.height}x{worst.width} "
            f"(allowed: {bound:.0e}), so the file was not written."
        )
    return tuple(found)


def _original(net: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(net).cpu().float().eval()


def _onnx(path: Path) -> Callable[[Tensor], Tensor]:
    from sr_engine.models.onnx_session import open_session

    session = open_session(path, torch.device("cpu"))
    (given,) = session.get_inputs()
    return lambda x: torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])


def _pt2(path: Path) -> Callable[[Tensor], Tensor]:
    program = torch.export.load(path)
    return program.module()
