"""Degradation `photo`: one mild round of what happens to pictures that people have: a little blur, noise, JPEG.

Blur, noise and JPEG act on the pixels of the reduced picture, which are few; that makes it cheap enough for a training
on two cores (about as much work again as a bicubic patch). Real-ESRGAN's degradation is `sr_engine.data.realworld`.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import Field

from sr_engine.data.bicubic import MARGIN, mod_crop
from sr_engine.data.degradation import Pixels
from sr_engine.data.places import cumulative
from sr_engine.data.spoil import through_jpeg
from sr_engine.errors import DataError

Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Filter = Literal["bicubic", "bilinear", "area", "lanczos"]

_FILTERS: dict[Filter, Pillow.Resampling] = {
    "bicubic": Pillow.Resampling.BICUBIC,
    "bilinear": Pillow.Resampling.BILINEAR,
    "area": Pillow.Resampling.BOX,
    "lanczos": Pillow.Resampling.LANCZOS,
}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
_WRAP = 4  # mirrored pixels between opposite borders, which the transform takes for neighbours


@dataclass(frozen=True, kw_only=True)
class Photo:
    """Parameters of the mild degradation: blur, antialiased reduction, noise, JPEG, each once.

    Lengths are pixels of the low-resolution picture.

    Args:
        blur_prob: chance of a Gaussian blur.
        blur_sigma: range of its standard deviations.
        anisotropic_prob: chance that a blur has two standard deviations, in a random direction.
        filter_list: antialiased filters that reduce; `bicubic` and `bilinear` are widened by the factor.
        filter_prob: their chances.
        noise_prob: chance of noise.
        noise_range: standard deviations, of 255; strong ones are rare (drawn evenly, then squared within the range).
        photon_noise_prob: chance that the variance grows with the brightness (and is the same at mid-grey); else it is
            even.
        gray_noise_prob: chance that the noise is the same in all colours.
        jpeg_prob: chance of JPEG.
        jpeg_range: qualities, 1..100.
        halved_colour_prob: chance that JPEG halves the resolution of colours (4:2:0); else it keeps it (4:4:4).

    Raises:
        DataError: a range that is none, or chances that are none.
    """

    drawn: ClassVar[bool] = True
    slow: ClassVar[bool] = False
    type: Literal["photo"] = "photo"
    blur_prob: Share = 0.5
    blur_sigma: Range = (0.1, 0.8)
    anisotropic_prob: Share = 0.4
    filter_list: tuple[Filter, ...] = get_args(Filter)
    filter_prob: tuple[Share, ...] = (0.55, 0.15, 0.15, 0.15)
    noise_prob: Share = 0.8
    noise_range: Range = (0.0, 10.0)
    photon_noise_prob: Share = 0.5
    gray_noise_prob: Share = 0.4
    jpeg_prob: Share = 0.9
    jpeg_range: Range = (40.0, 95.0)
    halved_colour_prob: Share = 0.8

    def __post_init__(self) -> None:
        for name in ("blur_sigma", "noise_range", "jpeg_range"):
            value = getattr(self, name)
            if not (len(value) == 2 and 0 <= value[0] <= value[1] < math.inf):
                raise DataError(f"photo: {name} must be two numbers, 0 <= low <= high, got {value}.")
        if not (self.jpeg_range[0] >= 1 and self.jpeg_range[1] <= 100):
            raise DataError(f"photo: jpeg_range must lie within 1 and 100, got {self.jpeg_range}.")
        for name, value in vars(self).items():
            shares = value if name == "filter_prob" else (value,) if name.endswith("_prob") else ()
            if not all(0 <= share <= 1 for share in shares):
                raise DataError(f"photo: {name} must be between 0 and 1, got {value}.")
        if not sum(self.filter_prob) > 0:
            raise DataError(f"photo: filter_prob must be chances of which one is not 0, got {self.filter_prob}.")
        if len(self.filter_list) != len(self.filter_prob):
            raise DataError(f"photo: {len(self.filter_list)} filters have {len(self.filter_prob)} chances.")
        if unknown := set(self.filter_list) - set(_FILTERS):
            raise DataError(f"photo: filter_list has {sorted(unknown)}, known are {', '.join(_FILTERS)}.")

    def whole(self, hr: Pixels, scale: int, rng: Generator) -> Pixels:
        return photo_down(hr, scale, self, rng)

    def patch(self, hr: Pixels, top: int, left: int, size: int, scale: int, rng: Generator) -> Pixels:
        return photo_patch(hr, top, left, size, scale, self, rng)


class _Jpeg(NamedTuple):
    quality: int
    subsampling: str
    grid: int  # side of what is coded together


def photo_down(hr: NDArray[np.uint8], scale: int, options: Photo, rng: Generator) -> NDArray[np.uint8]:
    """A whole picture (H, W, 3) uint8, degraded to (H // scale, W // scale, 3); it depends on the arguments alone."""
    jpeg = _draw_jpeg(options, rng)
    low = _reduced(mod_crop(hr, scale), scale, options, rng)
    return low if jpeg is None else through_jpeg(low, jpeg.quality, jpeg.subsampling)


def photo_patch(
    hr: NDArray[np.uint8], top: int, left: int, size: int, scale: int, options: Photo, rng: Generator
) -> NDArray[np.uint8]:
    """The LR patch (size, size, 3) of the HR pixels at (top, left), from the arguments alone.

    What lies around it is degraded with it: what the filters see, and whole blocks of JPEG, whose grid lies at random
    against the patch. Beyond the top and left of the picture it is mirrored for that.
    """
    jpeg = _draw_jpeg(options, rng)
    grid = 1 if jpeg is None else jpeg.grid
    offsets = [int(k) for k in rng.integers(grid, size=2)]  # from a line of the grid to the patch
    region, firsts, lengths, missing = [], [], [], []
    for start, n, offset in zip((top, left), hr.shape[:2], offsets, strict=True):
        end = size + -(offset + size) % grid
        # All in LR pixels from the corner of the patch.
        first, last = -min(max(offset, MARGIN), start // scale), min(max(end, size + MARGIN), (n - start) // scale)
        region.append(slice(start + first * scale, start + last * scale))
        firsts.append(max(-offset - first, 0))
        lengths.append(min(end, last) - max(-offset, first))
        missing.append((max(first + offset, 0), 0))
    low = _reduced(hr[region[0], region[1]], scale, options, rng)
    low = low[firsts[0] : firsts[0] + lengths[0], firsts[1] : firsts[1] + lengths[1]]
    if jpeg is not None:
        if any(before for before, _ in missing):
            low = np.pad(low, (*missing, (0, 0)), mode="symmetric")
        low = through_jpeg(low, jpeg.quality, jpeg.subsampling)
    return low[offsets[0] : offsets[0] + size, offsets[1] : offsets[1] + size]


def _draw_jpeg(options: Photo, rng: Generator) -> _Jpeg | None:
    chance, quality, halved = rng.random(), rng.uniform(*options.jpeg_range), rng.random()
    if chance >= options.jpeg_prob:
        return None
    return _Jpeg(round(quality), *(("4:2:0", 16) if halved < options.halved_colour_prob else ("4:4:4", 8)))


def _reduced(hr: NDArray[np.uint8], scale: int, options: Photo, rng: Generator) -> NDArray[np.uint8]:
    """Blurred, reduced and noisy."""
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    chances = cumulative(np.array(options.filter_prob))
    chosen = options.filter_list[int(np.searchsorted(chances, rng.random(), side="right"))]
    small = Pillow.fromarray(np.ascontiguousarray(hr)).resize((width, height), _FILTERS[chosen])
    low = np.array(small, np.float32)
    if rng.random() < options.blur_prob:
        one, other, theta = rng.uniform(*options.blur_sigma), rng.uniform(*options.blur_sigma), rng.uniform(0, math.pi)
        low = blur(low, (one, other if rng.random() < options.anisotropic_prob else one), theta)
    if rng.random() < options.noise_prob:
        low += _noise(low, options, rng)
    return np.rint(np.clip(low, 0.0, 255.0)).astype(np.uint8)


def blur(low: NDArray[np.float32], sigma: tuple[float, float], theta: float) -> NDArray[np.float32]:
    """(H, W, C) convolved with a Gaussian, borders mirrored.

    By its transfer function exp(-2 pi^2 f' S f) with S the covariance: after an antialiased reduction that is nearly
    what a blur of the original would have done, also where sigma is less than a pixel and samples of a Gaussian are
    none.

    Args:
        sigma: standard deviations along the axis at `theta` (from x to y) and across it, pixels.
        theta: radians.
    """
    # To a multiple of 8, where the transform is fast.
    height, width = (-(-(n + 2 * _WRAP) // 8) * 8 for n in low.shape[:2])
    around = [(_WRAP, whole - n - _WRAP) for whole, n in ((height, low.shape[0]), (width, low.shape[1]))]
    padded = np.pad(low.transpose(2, 0, 1), ((0, 0), *around), mode="symmetric")
    y = np.fft.fftfreq(height).astype(np.float32)[:, None]
    x = np.fft.rfftfreq(width).astype(np.float32)
    along, across = x * math.cos(theta) + y * math.sin(theta), y * math.cos(theta) - x * math.sin(theta)
    transfer = np.exp(-2.0 * math.pi**2 * ((sigma[0] * along) ** 2 + (sigma[1] * across) ** 2), dtype=np.float32)
    out = np.fft.irfft2(np.fft.rfft2(padded) * transfer, s=(height, width))
    return out[:, _WRAP : _WRAP + low.shape[0], _WRAP : _WRAP + low.shape[1]].transpose(1, 2, 0).astype(np.float32)


def _noise(low: NDArray[np.float32], options: Photo, rng: Generator) -> NDArray[np.float32]:
    weakest, strongest = options.noise_range
    sigma = weakest + (strongest - weakest) * rng.random() ** 2
    photons, gray = rng.random() < options.photon_noise_prob, rng.random() < options.gray_noise_prob
    noise = rng.standard_normal((*low.shape[:2], 1 if gray else 3), np.float32) * np.float32(sigma)
    if photons:
        level = (low @ _LUMA)[:, :, None] if gray else low
        noise *= np.sqrt(np.maximum(level, 0.0) / np.float32(127.5))
    return noise
