"""PSNR and SSIM of an upsampler, by the protocol that published tables use.

The high-resolution picture is cut to a multiple of the scale and reduced with antialiased bicubic (a = -0.5), rounded
to uint8; the upscaled result is rounded to uint8; both are compared on the BT.601 studio-range Y channel without
`scale` pixels at each border; means are over pictures. Grey counts as RGB with equal channels.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sr_engine.data import EvalPair, build_dataset, validation_pairs
from sr_engine.data.spoil import spoil
from sr_engine.errors import DataError
from sr_engine.infer.judge import Measure
from sr_engine.metrics import psnr_y, ssim_y
from sr_engine.metrics.fidelity import WINDOW

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageScore:
    """psnr_y in dB (infinite for equal pictures), ssim_y in -1..1, seconds of the upscaling alone; more: the values of
    further measures by name."""

    name: str
    psnr_y: float
    ssim_y: float
    seconds: float
    more: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """All in one mapping, further measures last."""
        values = asdict(self)
        return values | values.pop("more")


class MeanScore(NamedTuple):
    psnr_y: float
    ssim_y: float


@dataclass(frozen=True)
class EvalReport:
    model: str
    scale: int
    images: list[ImageScore]
    defects: Mapping[str, float | None] | None = None  # how low-resolution pictures were spoiled, see `spoiled`

    def mean(self) -> MeanScore:
        """Means over pictures, as published: not the PSNR of the mean error, which is about 1 dB lower."""
        count = len(self.images)
        return MeanScore(sum(i.psnr_y for i in self.images) / count, sum(i.ssim_y for i in self.images) / count)

    def mean_more(self) -> dict[str, float]:
        """Means over pictures of the further measures by name."""
        return {name: sum(i.more[name] for i in self.images) / len(self.images) for name in self.images[0].more}

    def to_json(self) -> str:
        """{"model", "scale", "images": [{"name", "psnr_y", "ssim_y", "seconds"}], "mean": {"psnr_y", "ssim_y"}}.

        Further measures follow in each of `images` and in `mean`; `defects` stands after `scale` where there are any.
        JSON has no infinity: the PSNR of equal pictures, and a mean with one, is null.
        """
        content = {
            "model": self.model,
            "scale": self.scale,
            **({"defects": dict(self.defects)} if self.defects is not None else {}),
            "images": [_finite(image.plain()) for image in self.images],
            "mean": _finite(self.mean()._asdict() | self.mean_more()),
        }
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def evaluate(
    upscale: Callable[[Pixels], Pixels],
    pairs: Iterable[EvalPair],
    *,
    scale: int,
    model: str = "",
    measures: Mapping[str, Measure] | None = None,
    on_image: Callable[[ImageScore], None] | None = None,
) -> EvalReport:
    """Upscale each pair's low-resolution picture and score it against the original.

    Args:
        upscale: (H, W, 3) uint8 -> (H*scale, W*scale, 3) uint8, such as an `Upscaler`.
        pairs: read one at a time, so they may be generated lazily.
        model: name for the report.
        measures: what else to measure of each result, by name; see `sr_engine.infer.judge`.
        on_image: called after each picture, for progress.

    Raises:
        DataError: no pictures, or one too small for SSIM's window of 11 pixels within the borders.
    """
    images: list[ImageScore] = []
    for pair in pairs:
        least = 2 * scale + WINDOW
        if min(pair.hr.shape[:2]) < least:
            size = f"{pair.hr.shape[1]}x{pair.hr.shape[0]}"
            raise DataError(f"{pair.name}: {size} pixels are too few to score at x{scale}: expected {least} a side.")
        start = time.perf_counter()
        result = upscale(pair.lr)
        seconds = time.perf_counter() - start
        psnr, ssim = psnr_y(result, pair.hr, shave=scale), ssim_y(result, pair.hr, shave=scale)
        more = {name: measure(result, pair) for name, measure in (measures or {}).items()}
        images.append(ImageScore(pair.name, psnr, ssim, round(seconds, 4), more))
        if on_image is not None:
            on_image(images[-1])
    if not images:
        raise DataError("nothing to evaluate: expected at least one picture.")
    return EvalReport(model, scale, images)


def folder_pairs(folder: str | Path, *, scale: int) -> Sequence[EvalPair]:
    """Every picture of a folder (and its subfolders) of high-resolution pictures, by name, with its reduced form.

    Raises:
        DataError: the folder is missing or has no pictures, or some cannot be used: all are named.
    """
    return validation_pairs(build_dataset(("folder", {"path": str(folder)}), scale=scale, role="val"), scale=scale)


def spoiled(pairs: Iterable[EvalPair], *, noise: float = 0, jpeg: int | None = None) -> Iterator[EvalPair]:
    """The same pairs with noise (deviation of 255), then JPEG of this quality, in their low-resolution pictures.

    See `sr_engine.data.spoil`; the noise depends on the name of a picture.
    """
    return (pair._replace(lr=spoil(pair.lr, noise=noise, jpeg=jpeg, seed=pair.name)) for pair in pairs)


def _finite(scores: dict) -> dict:
    return {key: None if isinstance(v, float) and math.isinf(v) else v for key, v in scores.items()}
