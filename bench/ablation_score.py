"""What the ablation measures of a network: PSNR-Y of whole pictures and of their smooth, edge and texture regions."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sr_engine.data import EvalPair
from sr_engine.infer.regions import REGIONS, region_map
from sr_engine.metrics import psnr_y, rgb_to_y
from sr_engine.metrics.fidelity import PEAK

Pixels = NDArray[np.uint8]

ROUNDS = 15
COST_SIZE = (180, 320)


def score(upscale: Callable[[Pixels], Pixels], pairs: Sequence[EvalPair], scale: int) -> dict[str, Any]:
    """PSNR-Y in dB by the protocol of `sr_engine.infer.evaluate`.

    Returns:
        images: PSNR-Y of each picture by name.
        psnr_y: their mean.
        regions: PSNR-Y of all pixels of a class in all pictures together, from their mean squared error.
        shares: the share of the pixels that each class has.
    """
    images: dict[str, float] = {}
    errors, counts = np.zeros(len(REGIONS)), np.zeros(len(REGIONS), np.int64)
    for pair in pairs:
        result = upscale(pair.lr)
        images[pair.name] = psnr_y(result, pair.hr, shave=scale)
        error, count = region_errors(result, pair.hr, shave=scale)
        errors += error
        counts += count
    means = errors / np.maximum(counts, 1)
    return {
        "psnr_y": statistics.fmean(images.values()),
        "regions": {name: 10 * math.log10(PEAK**2 / max(e, 1e-12)) for name, e in zip(REGIONS, means, strict=True)},
        "shares": dict(zip(REGIONS, (counts / counts.sum()).tolist(), strict=True)),
        "images": images,
    }


def region_errors(sr: Pixels, hr: Pixels, *, shave: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum of squared luma errors, and number of pixels, of each class of the original (H, W, 3)."""
    keep = slice(shave, -shave or None)
    squared = np.square(rgb_to_y(sr) - rgb_to_y(hr))[keep, keep]
    classes = region_map(torch.tensor(hr).permute(2, 0, 1)[None] / 255)[0].numpy()[keep, keep]
    each = range(len(REGIONS))
    return (
        np.array([squared[classes == k].sum() for k in each]),
        np.array([(classes == k).sum() for k in each], np.int64),
    )


@torch.no_grad()
def milliseconds(nets: Mapping[str, nn.Module]) -> dict[str, float]:
    """Median time of one 320x180 picture; the networks take turns, so that a busy machine delays all of them alike."""
    picture = torch.rand(1, 3, *COST_SIZE).contiguous(memory_format=torch.channels_last)
    taken: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(ROUNDS + 1):
        for name, net in nets.items():
            start = time.perf_counter()
            net(picture)
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}
