"""PSNR and SSIM of an upsampler, by the protocol that published tables use.

The high-resolution picture is cut to a multiple of the scale and reduced with antialiased bicubic (a = -0.5), rounded
to uint8; the upscaled result is rounded to uint8; both are compared on the BT.601 studio-range Y channel without
`scale` pixels at each border; means are over pictures. Grey counts as RGB with equal channels, alpha is left out.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sr_engine.data.bicubic import bicubic_down, mod_crop
from sr_engine.data.images import SUFFIXES, read_image, to_rgb, to_uint8
from sr_engine.errors import DataError
from sr_engine.metrics import psnr_y, ssim_y

Pixels = NDArray[np.uint8]

_SSIM_WINDOW = 11


class Pair(Protocol):
    """A picture to evaluate on: `hr` (H, W, 3) uint8 with H and W multiples of the scale, `lr` its reduced form."""

    @property
    def name(self) -> str: ...
    @property
    def lr(self) -> Pixels: ...
    @property
    def hr(self) -> Pixels: ...


class FolderPair(NamedTuple):
    name: str
    lr: Pixels
    hr: Pixels


@dataclass(frozen=True)
class ImageScore:
    """psnr_y in dB (infinite for equal pictures), ssim_y in -1..1, seconds of the upscaling alone."""

    name: str
    psnr_y: float
    ssim_y: float
    seconds: float


class MeanScore(NamedTuple):
    psnr_y: float
    ssim_y: float


@dataclass(frozen=True)
class EvalReport:
    model: str
    scale: int
    images: list[ImageScore]

    def mean(self) -> MeanScore:
        """Means over pictures, as published: not the PSNR of the mean error, which is about 1 dB lower."""
        count = len(self.images)
        return MeanScore(sum(i.psnr_y for i in self.images) / count, sum(i.ssim_y for i in self.images) / count)

    def to_json(self) -> str:
        """{"model", "scale", "images": [{"name", "psnr_y", "ssim_y", "seconds"}], "mean": {"psnr_y", "ssim_y"}}.

        JSON has no infinity: the PSNR of equal pictures, and a mean with one, is null.
        """
        content = {
            "model": self.model,
            "scale": self.scale,
            "images": [_finite(asdict(image)) for image in self.images],
            "mean": _finite(self.mean()._asdict()),
        }
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def evaluate(
    upscale: Callable[[Pixels], Pixels],
    pairs: Iterable[Pair],
    *,
    scale: int,
    model: str = "",
    on_image: Callable[[ImageScore], None] | None = None,
) -> EvalReport:
    """Upscale each pair's low-resolution picture and score it against the original.

    Args:
        upscale: (H, W, 3) uint8 -> (H*scale, W*scale, 3) uint8, such as an `Upscaler`.
        pairs: read one at a time, so they may be generated lazily.
        model: name for the report.
        on_image: called after each picture, for progress.

    Raises:
        DataError: no pictures, or one too small for SSIM's window of 11 pixels within the borders.
    """
    images: list[ImageScore] = []
    for pair in pairs:
        least = 2 * scale + _SSIM_WINDOW
        if min(pair.hr.shape[:2]) < least:
            size = f"{pair.hr.shape[1]}x{pair.hr.shape[0]}"
            raise DataError(f"{pair.name}: {size} pixels are too few to score at x{scale}: expected {least} a side.")
        start = time.perf_counter()
        result = upscale(pair.lr)
        seconds = time.perf_counter() - start
        psnr, ssim = psnr_y(result, pair.hr, shave=scale), ssim_y(result, pair.hr, shave=scale)
        images.append(ImageScore(pair.name, psnr, ssim, round(seconds, 4)))
        if on_image is not None:
            on_image(images[-1])
    if not images:
        raise DataError("nothing to evaluate: expected at least one picture.")
    return EvalReport(model, scale, images)


def folder_pairs(folder: str | Path, *, scale: int) -> Iterator[FolderPair]:
    """Every picture of a folder of high-resolution pictures, by name, with its reduced form; read when asked for.

    Raises:
        DataError: the folder is missing, or has no pictures.
        ImageFileError: a picture cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder: expected one with high-resolution pictures.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{folder}: has no pictures: expected files such as {', '.join(sorted(SUFFIXES)[:5])}.")
    return (_reduced(path, scale) for path in paths)


def _reduced(path: Path, scale: int) -> FolderPair:
    hr = mod_crop(to_rgb(to_uint8(read_image(path).pixels)), scale)
    lr = bicubic_down(hr, scale) if hr.size else hr
    return FolderPair(path.stem, lr, hr)


def _finite(scores: dict) -> dict:
    return {key: None if isinstance(v, float) and math.isinf(v) else v for key, v in scores.items()}
