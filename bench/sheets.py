"""Sheets of details for the documents: where a network gains most and least, and what one with a discriminator invents.

    python -m bench.sheets gains --models tiny-x4 -o docs/images/crops_x4.png
    python -m bench.sheets textures --models tiny-x4 tiny-x4-gan -o docs/images/gan_x4.png

All pictures are photographs that install with scikit-image, in the public domain or CC0 (`sr_engine.data.demo`), as a
whole; the networks that come with the package were trained on others. Low-resolution pictures are reduced by bicubic,
and dB are PSNR-Y of the window shown.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sr_engine.cli.registrations import load_all
from sr_engine.data import EvalPair
from sr_engine.data.bicubic import bicubic_down, mod_crop
from sr_engine.data.demo import Demo
from sr_engine.data.images import read_image, to_rgb, to_uint8
from sr_engine.data.sources import Role
from sr_engine.errors import DataError
from sr_engine.infer.regions import REGIONS, region_map
from sr_engine.infer.sheet import Detail, detail_sheet, square_sums
from sr_engine.infer.upscaler import Upscaler
from sr_engine.metrics import rgb_to_y
from sr_engine.metrics.fidelity import PEAK

Pixels = NDArray[np.uint8]
Map = NDArray[np.float64]

VISIBLE = 30.0  # dB; where the classical upsampler is better than that, there is nothing to see
STEEP = 12.0  # levels a pixel
ZOOM = 3
LARGEST = 500_000  # bytes of a committed picture


class Picture(NamedTuple):
    """A name and the versions of a photograph, (H, W, 3) uint8 of one size, the original last."""

    name: str
    versions: list[Pixels]


def photographs(scale: int) -> Iterator[EvalPair]:
    """The demo photographs as a whole, one at a time, cut to a multiple of `scale`."""
    roles: tuple[Role, ...] = ("train", "val")
    for file in sorted({picture.hr for role in roles for picture in Demo().pictures(role=role, scale=scale)}):
        hr = mod_crop(to_uint8(to_rgb(read_image(file).pixels)), scale)
        yield EvalPair(file.stem, bicubic_down(hr, scale), hr)


def upscaled(pairs: Iterator[EvalPair], upscalers: Sequence[Callable[[Pixels], Pixels]]) -> list[Picture]:
    """Each photograph by each upscaler, and the original."""
    return [Picture(pair.name, [*(up(pair.lr) for up in upscalers), pair.hr]) for pair in pairs]


def gains(pictures: Sequence[Picture], *, base: int, network: int, side: int, rows: int, shave: int) -> list[Detail]:
    """Windows where the network gains most over the classical upsampler, then those where it gains least or loses.

    Of each picture at most one window of either kind; windows that the classical upsampler leaves without visible error
    don't count.

    Args:
        base, network: indices of the two among the versions.
        side: of a window, in pixels of the result.
        rows: of either kind.
        shave: pixels at each border that no window touches.
    """
    most, least = [], []
    for picture in pictures:
        before, after = (_decibels(error, side, shave) for error in _errors(picture, (base, network)))
        gain = np.where(before < VISIBLE, after - before, np.nan)
        if not np.isnan(gain).all():
            most.append((float(np.nanmax(gain)), picture, _place(np.nanargmax(gain), gain, side, shave)))
            least.append((float(np.nanmin(gain)), picture, _place(np.nanargmin(gain), gain, side, shave)))
    best, worst = sorted(most, key=_first)[::-1][:rows], sorted(least, key=_first)[:rows]
    drawn = []
    for chosen, heading in ((best, "where the network gains most"), (worst, "where it gains least, or loses")):
        for index, (gain, picture, place) in enumerate(chosen):
            drawn.append(_detail(picture, place, side, f"{gain:+.2f} dB, {picture.name}", "" if index else heading))
    return drawn


def textures(pictures: Sequence[Picture], *, side: int, rows: int, shave: int) -> list[Detail]:
    """The windows with most texture, one of each picture: the largest mean slope of the luma where it is texture.

    A slope counts up to `STEEP`, so that dense, fine texture such as fur comes before a few strong edges.
    """
    found = []
    for picture in pictures:
        truth = picture.versions[-1]
        classes = region_map(torch.tensor(truth).permute(2, 0, 1)[None] / 255)[0].numpy()
        down, right = np.gradient(rgb_to_y(truth))
        slope = np.minimum(np.hypot(down, right), STEEP) * (classes == REGIONS.index("texture"))
        if min(truth.shape[:2]) >= side + 2 * shave:
            means = _windows(slope, side, shave)
            found.append((float(means.max()), picture, _place(means.argmax(), means, side, shave)))
    chosen = sorted(found, key=_first)[::-1][:rows]
    return [_detail(picture, place, side, picture.name) for _, picture, place in chosen]


def main(words: Sequence[str] | None = None, *, pairs: Callable[[int], Iterator[EvalPair]] = photographs) -> int:
    """Make one sheet; 0 = done."""
    args = _parser().parse_args(words)
    load_all()
    networks = [Upscaler(name, precision="fp32") for name in args.models]
    scale = networks[0].scale
    if any(network.scale != scale for network in networks):
        raise DataError(f"one scale expected, got {', '.join(f'{n.name} x{n.scale}' for n in networks)}.")
    names = [Path(name).stem for name in args.models]
    classical = ["bicubic"] if args.sheet == "textures" else ["bicubic", "mks2021"]
    pictures = upscaled(pairs(scale), [*(Upscaler(name, scale=scale) for name in classical), *networks])
    common = {"side": args.side, "rows": args.rows, "shave": scale}
    if args.sheet == "gains":
        details = gains(pictures, base=classical.index("mks2021"), network=len(classical), **common)
    else:
        details = textures(pictures, **common)
    titles = [*("MKS2021" if name == "mks2021" else name for name in classical), *names, "original"]
    detail_sheet(titles, details, args.out, cell=ZOOM * args.side, overview=False)
    size = args.out.stat().st_size
    print(f"{args.out}: {len(details)} details, {size:,} bytes")
    if size > LARGEST:
        print(f"that is more than {LARGEST:,} bytes: a smaller --side or --rows makes it smaller")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.sheets", description="Draw a sheet of details.")
    parser.add_argument("sheet", choices=("gains", "textures"))
    parser.add_argument(
        "--models", nargs="+", required=True, metavar="NAME|PATH", help="of one scale; the first is compared by `gains`"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--side", type=int, default=72, metavar="N", help="of a window, in pixels of the result (72)")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="details of each kind (3)")
    return parser


def _errors(picture: Picture, versions: Sequence[int]) -> list[Map]:
    """Squared errors of the luma of some versions."""
    truth = rgb_to_y(picture.versions[-1])
    return [np.square(rgb_to_y(picture.versions[index]) - truth) for index in versions]


def _decibels(error: Map, side: int, shave: int) -> Map:
    return 10 * np.log10(PEAK**2 / np.maximum(_windows(error, side, shave), 1e-9))


def _windows(values: Map, side: int, shave: int) -> Map:
    """Means of the squares that begin at multiples of a quarter of their side, `shave` pixels from every border."""
    values = values[shave : values.shape[0] - shave, shave : values.shape[1] - shave]
    if min(values.shape) < side:
        return np.full((1, 1), np.nan)
    step = _step(side)
    return square_sums(values, side)[::step, ::step] / side**2


def _place(index: np.intp, windows: Map, side: int, shave: int) -> tuple[int, int]:
    """Top and left of a window in the picture."""
    row, column = np.unravel_index(index, windows.shape)
    return shave + int(row) * _step(side), shave + int(column) * _step(side)


def _step(side: int) -> int:
    return max(1, side // 4)


def _detail(picture: Picture, place: tuple[int, int], side: int, note: str, heading: str = "") -> Detail:
    rows, columns = (slice(at, at + side) for at in place)
    errors = (error[rows, columns].mean() for error in _errors(picture, range(len(picture.versions) - 1)))
    scores = [10 * math.log10(PEAK**2 / max(error, 1e-9)) for error in errors]
    return Detail(picture.name, picture.versions, *place, side, scores, note, heading)


def _first(found: tuple) -> float:
    return found[0]


if __name__ == "__main__":
    raise SystemExit(main())
