"""Resampling without this project: torch's interpolate, Pillow, OpenCV, and what one would write in torch.

`by_taps` is the same filter as ours, as a user of torch.compile would write it: for each axis, the sum over the taps of
a weight times shifted samples, with tables of weights built beforehand. Compiled, it is one fused kernel an axis.
`learned_by_taps` is the learned form in the same manner: unfold, a weighted sum over stencils, two resamples. Both
compute in float32 as ours does, so they are held to the same result.

Pillow and OpenCV get pictures in their own layouts, made beforehand: planes of mode F for Pillow in float32 (it knows
no colour in float), interleaved RGB otherwise. Their results are converted after the clock.
"""

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.clock import Call
from bench.peers import absent
from sr_kernels.magic_resample.filters import FILTERS, axis_weights

KERNEL = "mks2021"
LAGS = FILTERS[KERNEL].lags
Size = tuple[int, int]
Taps = tuple[Tensor, Tensor]  # indices and weights (taps, outputs) of an axis


def interpolate(x: Tensor, size: Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bicubic", antialias=True)


def pillow(x: Tensor, size: Size, method: str) -> Call:
    """Image.resize of a batch; returns a list of pictures."""
    try:
        image = importlib.import_module("PIL.Image")
    except ImportError:
        return absent("Pillow is not installed")
    resampling = getattr(image.Resampling, method, None)
    if resampling is None:
        return absent(f"Pillow {image.__version__} has no {method}, Pillow 13 has")
    arrays = x.flatten(0, 1) if x.dtype == torch.float32 else x.permute(0, 2, 3, 1)
    pictures = [image.fromarray(array.contiguous().numpy()) for array in arrays]
    return lambda: [picture.resize(size[::-1], resampling) for picture in pictures]


def opencv(x: Tensor, size: Size, method: str) -> Call:
    """cv2.resize of a batch with as many threads as torch has; returns a list of arrays."""
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        return absent("OpenCV is not installed: pip install opencv-python-headless")
    cv2.setNumThreads(torch.get_num_threads())
    pictures = [picture.contiguous().numpy() for picture in x.permute(0, 2, 3, 1)]
    return lambda: [cv2.resize(picture, size[::-1], interpolation=getattr(cv2, method)) for picture in pictures]


def as_maps(_: str, result: Any) -> Any:
    """What Pillow and OpenCV return as [B C H W]; batches of one picture of three planes, or interleaved."""
    if not isinstance(result, list):
        return result
    arrays = np.stack([np.asarray(picture) for picture in result])
    return arrays[None] if arrays.ndim == 3 else arrays.transpose(0, 3, 1, 2)


def taps(x: Tensor, size: Size, kernel: str = KERNEL) -> tuple[Taps, Taps]:
    """The tables of rows and columns for pictures like `x`."""
    rows, columns = (_axis(kernel, x.shape[axis + 2], size[axis], x.device) for axis in (0, 1))
    return rows, columns


def _axis(kernel: str, n_in: int, n_out: int, device: torch.device) -> Taps:
    start, weights = axis_weights(kernel, n_in, n_out)
    index = start + np.arange(weights.shape[1])[:, None]
    return torch.from_numpy(index).to(device), torch.from_numpy(weights.T.copy()).to(device, torch.float32)


def by_taps(x: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """[B C H W] -> [B C H' W'], rows first; float32 inside, the dtype of `x` outside."""
    wide = x.float()
    wide = _sum(weights[:, None] * wide[:, :, index] for index, weights in zip(*rows, strict=True))
    wide = _sum(weights * wide[:, :, :, index] for index, weights in zip(*columns, strict=True))
    return wide.to(x.dtype)


def learned_by_taps(
    x: Tensor, gains: Tensor, basis: Tensor | None, classical: tuple[Taps, Taps], magic: tuple[Taps, Taps]
) -> Tensor:
    """classical(x) + U(z(gains) - z(1)), as documented in `sr_kernels.magic_resample.api`."""
    wide, gains = x.float(), gains.float()
    bend = by_lags(wide, gains) - by_lags(wide, None) if basis is None else by_stencils(wide, gains, basis)
    return (by_taps(wide, *classical) + by_taps(bend, *magic)).to(x.dtype)


def by_stencils(x: Tensor, gains: Tensor, basis: Tensor) -> Tensor:
    """z(gains) - z(1) for stencils (G,k,k) that sum to zero: unfold, then a weighted sum over the stencils."""
    (B, C, H, W), (G, k, _) = x.shape, basis.shape
    patches = F.unfold(F.pad(x, (k // 2,) * 4, mode="replicate"), k).view(B, C, k * k, H * W)
    details = (basis.view(G, k * k) @ patches).view(B, C, G, H, W)
    return ((gains - 1).unsqueeze(1) * details).sum(2)


def by_lags(x: Tensor, gains: Tensor | None) -> Tensor:
    """z(gains) of the kernel's own sharpening, down the columns and then along the rows; None for gains of 1."""
    for axis, (top, left) in enumerate(((1, 0), (0, 1))):
        terms = [x]
        n, length = len(LAGS), x.shape[2 + axis]
        for k, factor in enumerate(LAGS, 1):
            padded = F.pad(x, (k * left, k * left, k * top, k * top), mode="replicate")
            both = padded.narrow(2 + axis, 0, length) + padded.narrow(2 + axis, 2 * k, length)
            gain = 1 if gains is None else gains[:, axis * n + k - 1].unsqueeze(1)
            terms.append(factor * gain * (both / 2 - x))
        x = _sum(terms)
    return x


def zero_sum(basis: Tensor) -> Tensor:
    """Stencils (G,k,k) whose centre is minus the sum of the others, as ours takes them."""
    centre, changed = basis.shape[1] // 2, basis.clone()
    changed[:, centre, centre] -= basis.sum((1, 2))
    return changed


def _sum(terms: Any) -> Tensor:
    first, *others = terms
    for term in others:
        first = first + term
    return first


def operations(shape: Sequence[int], size: Size) -> int:
    """Floating-point operations of the classical resample in the order of least work, two for a multiply-add.

    Separable, sharpening (7 taps an axis) on the grid of the smaller picture, the magic kernel with 3 taps for each
    output, or 3 for each input pixel that an output covers when downsizing; whichever axis first is cheaper. The
    gradient is the transposed map: as many again.
    """
    B, C, H, W = shape
    height, width = size
    rows, columns = 3 * max(1, math.ceil(H / height)), 3 * max(1, math.ceil(W / width))
    magic = min(
        rows * height * W + columns * height * width,  # rows first
        columns * H * width + rows * height * width,
    )
    return 2 * B * C * (magic + 2 * 7 * min(H * W, height * width))


def bend_operations(shape: Sequence[int], gains: Tensor, basis: Tensor | None) -> int:
    """Of z(gains) - z(1): the stencils added up for each set of gains, then one product a tap, pixel and channel.

    For the kernel's own lags 4 operations a lag, axis, pixel and channel. Its gradient, of the picture and of the
    gains, does each twice.
    """
    B, C, H, W = shape
    if basis is None:
        return 4 * 2 * len(LAGS) * B * C * H * W
    return 2 * (gains.numel() * basis[0].numel() + B * C * H * W * basis[0].numel())
