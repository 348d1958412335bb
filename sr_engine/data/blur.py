"""Random blur kernels of Real-ESRGAN's degradation (Wang et al., ICCV-W 2021, sections 3.1 and 3.3).

Every function returns a square float32 kernel of odd side that sums to 1.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

KernelName = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
Kernel = NDArray[np.float32]


def gaussian_family(
    size: int,
    sigma: tuple[float, float],
    theta: float = 0.0,
    beta: float = 1.0,
    shape: Literal["gaussian", "plateau"] = "gaussian",
) -> Kernel:
    """A rotated, possibly anisotropic kernel.

    With q the squared Mahalanobis distance from the centre: `gaussian` is exp(-q^beta / 2), a Gaussian at beta = 1
    and flatter or more peaked otherwise; `plateau` is 1 / (1 + q^beta).

    Args:
        sigma: standard deviations in pixels along the two axes of the kernel.
        theta: angle of the first axis, radians.
    """
    y, x = _grid(size)
    u = (x * math.cos(theta) + y * math.sin(theta)) / sigma[0]
    v = (y * math.cos(theta) - x * math.sin(theta)) / sigma[1]
    q = (u * u + v * v) ** beta
    kernel = np.exp(-0.5 * q) if shape == "gaussian" else 1.0 / (1.0 + q)
    return (kernel / kernel.sum()).astype(np.float32)


def sinc(size: int, cutoff: float) -> Kernel:
    """Circular ideal low-pass filter, which rings like sharpening and strong compression do.

    k(r) = cutoff * J1(cutoff * r) / (2 pi r), cut to the square. `cutoff` is in radians a pixel, 0..pi.
    """
    y, x = _grid(size)
    radius = np.hypot(x, y)
    radius[size // 2, size // 2] = 1.0
    kernel = cutoff * torch.special.bessel_j1(torch.from_numpy(cutoff * radius)).numpy() / (2.0 * math.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4.0 * math.pi)
    return (kernel / kernel.sum()).astype(np.float32)


def random_kernel(
    rng: Generator,
    *,
    names: Sequence[KernelName],
    probabilities: Sequence[float],
    sigma: tuple[float, float],
    betag: tuple[float, float],
    betap: tuple[float, float],
    sinc_prob: float,
    max_size: int,
) -> Kernel:
    """Draw size (odd, 7..max_size), kind and shape of a kernel as Real-ESRGAN does."""
    size = random_size(rng, max_size)
    if rng.random() < sinc_prob:
        return sinc(size, rng.uniform(math.pi / (3 if size < 13 else 5), math.pi))
    name = names[rng.choice(len(names), p=np.asarray(probabilities) / np.sum(probabilities))]
    first, second, theta = rng.uniform(*sigma), rng.uniform(*sigma), rng.uniform(-math.pi, math.pi)
    beta = 1.0
    if name.startswith(("generalized", "plateau")):
        low, high = betag if name.startswith("generalized") else betap
        # Half of the draws below 1 and half above, whatever the two lengths are.
        beta = rng.uniform(low, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, high)
    pair = (first, first) if name.endswith("iso") and not name.endswith("aniso") else (first, second)
    return gaussian_family(size, pair, theta, beta, "plateau" if name.startswith("plateau") else "gaussian")


def random_size(rng: Generator, max_size: int) -> int:
    """An odd side between 7 and `max_size`."""
    return 2 * int(rng.integers(3, (max_size - 1) // 2 + 1)) + 1


def _grid(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axis = np.arange(size, dtype=np.float64) - (size - 1) / 2.0
    y, x = np.broadcast_arrays(axis[:, None], axis[None, :])
    return y.copy(), x.copy()
