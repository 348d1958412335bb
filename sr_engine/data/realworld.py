"""Real-world degradation of Real-ESRGAN: blur, resize, noise and JPEG, twice, with a last ringing filter.

Source: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data", ICCV-W 2021;
names and defaults of the parameters are those of its x4plus training options. Differences: JPEG is libjpeg's, not a
differentiable imitation, and every sample has its own parameters instead of every batch.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from sr_engine.data.blur import Kernel, KernelName, random_kernel, random_size, sinc
from sr_engine.data.degradation import Pixels, cut_with_margin
from sr_engine.data.spoil import through_jpeg
from sr_engine.errors import DataError

Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Three = tuple[Share, Share, Share]
Chances = tuple[Share, ...]
Kernels = tuple[KernelName, ...]
_KERNELS: Kernels = get_args(KernelName)
Side = Annotated[int, Field(ge=7)]
# HR pixels around a patch that it sees; its filters reach further, but faintly.
_MARGIN = 32

_LUMA = np.array([0.2989, 0.587, 0.114], np.float32)  # BT.601


@dataclass(frozen=True, kw_only=True)
class RealWorld:
    """Parameters of the degradation; a name that ends in 2 belongs to the second round.

    Args:
        blur_kernel_size: largest side of a blur kernel, odd; sides are drawn from 7 up.
        kernel_list: kinds of blur kernels.
        kernel_prob: their chances.
        sinc_prob: chance of a ringing kernel in their place.
        blur_sigma: range of standard deviations, pixels.
        betag_range: range of the exponent of generalised kernels, around 1.
        betap_range: range of the exponent of plateau kernels, around 1.
        resize_prob: chances of enlarging, reducing, keeping the size.
        resize_range: smallest and largest factor; in the second round relative to the final size.
        gaussian_noise_prob: chance of Gaussian noise; else Poisson noise.
        noise_range: standard deviations, of 255.
        poisson_scale_range: multiples of the noise of a photon count equal to the number of grey levels.
        gray_noise_prob: chance that the noise is the same in all colours.
        jpeg_range: qualities, 1..100.
        second_blur_prob: chance of the second blur.
        final_sinc_prob: chance of a ringing filter at the end.

    Raises:
        DataError: a range that is none, or chances that are none.
    """

    drawn: ClassVar[bool] = True
    slow: ClassVar[bool] = True
    type: Literal["real_world"] = "real_world"
    blur_kernel_size: Side = 21
    kernel_list: Kernels = _KERNELS
    kernel_prob: Chances = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc_prob: Share = 0.1
    blur_sigma: Range = (0.2, 3.0)
    betag_range: Range = (0.5, 4.0)
    betap_range: Range = (1.0, 2.0)
    resize_prob: Three = (0.2, 0.7, 0.1)
    resize_range: Range = (0.15, 1.5)
    gaussian_noise_prob: Share = 0.5
    noise_range: Range = (1.0, 30.0)
    poisson_scale_range: Range = (0.05, 3.0)
    gray_noise_prob: Share = 0.4
    jpeg_range: Range = (30.0, 95.0)
    second_blur_prob: Share = 0.8
    blur_kernel_size2: Side = 21
    kernel_list2: Kernels = _KERNELS
    kernel_prob2: Chances = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc_prob2: Share = 0.1
    blur_sigma2: Range = (0.2, 1.5)
    betag_range2: Range = (0.5, 4.0)
    betap_range2: Range = (1.0, 2.0)
    resize_prob2: Three = (0.3, 0.4, 0.3)
    resize_range2: Range = (0.3, 1.2)
    gaussian_noise_prob2: Share = 0.5
    noise_range2: Range = (1.0, 25.0)
    poisson_scale_range2: Range = (0.05, 2.5)
    gray_noise_prob2: Share = 0.4
    jpeg_range2: Range = (30.0, 95.0)
    final_sinc_prob: Share = 0.8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if ("range" in name or "sigma" in name) and not (len(value) == 2 and 0 <= value[0] <= value[1]):
                raise DataError(f"real_world: {name} must be two numbers, 0 <= low <= high, got {value}.")
            if name.startswith(("blur_sigma", "resize_range")) and value[0] == 0:
                raise DataError(f"real_world: {name} must begin above 0, got {value}.")
            if name.startswith("beta") and not value[0] <= 1 <= value[1]:
                raise DataError(f"real_world: {name} must be a range around 1, got {value}.")
            if name.startswith(("kernel_prob", "resize_prob")) and not (sum(value) > 0 and min(value) >= 0):
                raise DataError(f"real_world: {name} must be chances of which one is not 0, got {value}.")
        for kernels, chances in ((self.kernel_list, self.kernel_prob), (self.kernel_list2, self.kernel_prob2)):
            if len(kernels) != len(chances):
                raise DataError(f"real_world: {len(kernels)} kinds of kernels have {len(chances)} chances.")

    def whole(self, hr: Pixels, scale: int, rng: Generator) -> Pixels:
        return real_world_down(hr, scale, self, rng)

    def patch(self, hr: Pixels, top: int, left: int, size: int, scale: int, rng: Generator) -> Pixels:
        margin = -(-_MARGIN // scale)
        return cut_with_margin(lambda region: self.whole(region, scale, rng), hr, top, left, size, scale, margin)


def real_world_down(hr: NDArray[np.uint8], scale: int, options: RealWorld, rng: Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 degraded to (H // scale, W // scale, 3) uint8; the result depends on the arguments alone."""
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    x = torch.from_numpy(hr[: height * scale, : width * scale].astype(np.float32).transpose(2, 0, 1) / 255.0)

    x = filter2d(x, _kernel(rng, options, ""))
    factor = _random_factor(rng, options.resize_prob, options.resize_range)
    x = _resize(x, (height * scale * factor, width * scale * factor), rng)
    x = _add_noise(x, rng, options, "")
    x = _jpeg(x, rng, options.jpeg_range)

    if rng.random() < options.second_blur_prob:
        x = filter2d(x, _kernel(rng, options, "2"))
    factor = _random_factor(rng, options.resize_prob2, options.resize_range2)
    x = _resize(x, (height * factor, width * factor), rng)
    x = _add_noise(x, rng, options, "2")

    # Resizing and the last filter stay together, before or after JPEG: other orders leave twisted lines (section 3.3).
    jpeg_last = rng.random() < 0.5
    if not jpeg_last:
        x = _jpeg(x, rng, options.jpeg_range2)
    x = _resize(x, (height, width), rng)
    if rng.random() < options.final_sinc_prob:
        x = filter2d(x, sinc(random_size(rng, 21), rng.uniform(math.pi / 3, math.pi)))
    if jpeg_last:
        x = _jpeg(x, rng, options.jpeg_range2)
    return _to_bytes(x)


def filter2d(x: torch.Tensor, kernel: Kernel) -> torch.Tensor:
    """Correlate each channel of (C, H, W) with an odd square kernel, borders mirrored (repeated where too small)."""
    reach = kernel.shape[0] // 2
    mode = "reflect" if min(x.shape[1:]) > reach else "replicate"
    padded = F.pad(x[None], (reach, reach, reach, reach), mode=mode)[0]
    # By FFT: a dense 21x21 correlation of small pictures takes several times longer on a CPU.
    rows, columns = padded.shape[1:]
    spectrum = torch.fft.rfft2(torch.from_numpy(kernel), s=(rows, columns)).conj()
    out = torch.fft.irfft2(torch.fft.rfft2(padded) * spectrum, s=(rows, columns))
    return out[:, : x.shape[1], : x.shape[2]]


def _kernel(rng: Generator, options: RealWorld, round_: str) -> Kernel:
    return random_kernel(
        rng,
        names=getattr(options, "kernel_list" + round_),
        probabilities=getattr(options, "kernel_prob" + round_),
        sigma=getattr(options, "blur_sigma" + round_),
        betag=getattr(options, "betag_range" + round_),
        betap=getattr(options, "betap_range" + round_),
        sinc_prob=getattr(options, "sinc_prob" + round_),
        max_size=getattr(options, "blur_kernel_size" + round_),
    )


def _random_factor(rng: Generator, chances: Three, limits: Range) -> float:
    match rng.choice(3, p=np.asarray(chances) / np.sum(chances)):
        case 0:
            return rng.uniform(1.0, max(1.0, limits[1]))
        case 1:
            return rng.uniform(min(1.0, limits[0]), 1.0)
    return 1.0


def _resize(x: torch.Tensor, size: tuple[float, float], rng: Generator) -> torch.Tensor:
    """To the nearest lower whole size with a random filter; not antialiased, as cameras and web sites do it."""
    mode = ("area", "bilinear", "bicubic")[rng.integers(3)]
    whole = (max(1, int(size[0])), max(1, int(size[1])))
    return x if whole == tuple(x.shape[1:]) else F.interpolate(x[None], size=whole, mode=mode)[0]


def _add_noise(x: torch.Tensor, rng: Generator, options: RealWorld, round_: str) -> torch.Tensor:
    gaussian = rng.random() < getattr(options, "gaussian_noise_prob" + round_)
    gray = rng.random() < getattr(options, "gray_noise_prob" + round_)
    if gaussian:
        shape = (1, *x.shape[1:]) if gray else tuple(x.shape)
        noise = rng.standard_normal(shape, np.float32) * np.float32(
            rng.uniform(*getattr(options, "noise_range" + round_)) / 255.0
        )
    else:
        levels = _to_levels(x)
        if gray:
            levels = np.rint(np.tensordot(_LUMA, levels, 1))[None]
        # Photons at full white: the number of grey levels in the picture, rounded up to a power of two.
        photons = 2.0 ** math.ceil(math.log2(np.count_nonzero(np.bincount(levels.astype(np.uint8).ravel()))))
        noise = rng.poisson(levels / 255.0 * photons) / photons - levels / 255.0
        noise = noise.astype(np.float32) * np.float32(rng.uniform(*getattr(options, "poisson_scale_range" + round_)))
    return (x + torch.from_numpy(noise)).clamp_(0.0, 1.0)


def _jpeg(x: torch.Tensor, rng: Generator, limits: Range) -> torch.Tensor:
    pixels = through_jpeg(_to_bytes(x), round(rng.uniform(*limits)), "4:2:0")
    return torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(255.0))


def _to_levels(x: torch.Tensor) -> NDArray[np.float32]:
    return np.rint(x.numpy().clip(0.0, 1.0) * 255.0)


def _to_bytes(x: torch.Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(_to_levels(x).astype(np.uint8).transpose(1, 2, 0))
