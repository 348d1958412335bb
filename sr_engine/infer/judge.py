"""What else can be asked of an upscaled picture: whether it keeps to its input, and how it looks."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from sr_engine.data import EvalPair
from sr_engine.data.bicubic import bicubic_down
from sr_engine.infer.classical import ClassicalUpsampler
from sr_engine.metrics import psnr_rgb
from sr_engine.metrics.perceptual import PerceptualMetric

Pixels = NDArray[np.uint8]
Measure = Callable[[Pixels, EvalPair], float]


def reduced_psnr(sr: Pixels, pair: EvalPair) -> float:
    """PSNR over R, G and B in dB of the output, reduced again as the protocol reduces originals, against the input.

    It says how much of what was seen is still there (LR-PSNR of Lugmayr et al. 2020, SRFlow, section 5); infinite if
    the input comes back to the last bit. Blur counts as loss: bicubic upscaling itself has less than a network.
    """
    return psnr_rgb(bicubic_down(sr, sr.shape[0] // pair.lr.shape[0]), pair.lr)


def colour_shift(sr: Pixels, pair: EvalPair) -> float:
    """Largest over R, G and B of |mean of the output - mean of the input upscaled by bicubic|, in steps of 255.

    The mean is over the whole picture. Upscaled, since an upsampler gives the pixels at a border another weight than
    the rest; in float and not clipped.
    """
    scale = sr.shape[0] // pair.lr.shape[0]
    low = torch.tensor(pair.lr, dtype=torch.float32).permute(2, 0, 1)[None]
    expected = ClassicalUpsampler("bicubic", scale)(low).double().mean((0, 2, 3)).numpy()
    return float(np.abs(sr.mean((0, 1)) - expected).max())


def looks(metric: PerceptualMetric) -> Measure:
    """A perceptual metric of the output and the original."""
    return lambda sr, pair: metric(sr, pair.hr)
