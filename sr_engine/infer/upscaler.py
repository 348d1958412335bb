"""One object that upscales pictures, whatever they come as: `out = Upscaler("tiny-x4")(picture)`."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sr_engine.allocator import return_freed_memory
from sr_engine.device import Precision, check_precision
from sr_engine.errors import EngineError
from sr_engine.infer.loading import compute_dtype, load
from sr_engine.infer.memory import MIN_TILE, is_out_of_memory
from sr_engine.infer.passes import OnTile, Passes, Tile
from sr_engine.infer.resize import ResizedRows
from sr_engine.infer.rows import in_step, source_rows, store
from sr_engine.infer.transparency import fill_transparent

Picture = TypeVar("Picture", np.ndarray, Tensor)

_PEAKS = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


class Upscaler:
    """Upscales pictures with a network or a classical upsampler, tile by tile where memory asks for it.

    Pictures go in and come out in the same form:
        numpy (H, W) or (H, W, C) with C = 1, 2 (grey + alpha), 3 or 4 (RGB + alpha); uint8, uint16, or float in 0..1
        torch (B, C, H, W) float in 0..1, C as above, on any device
    Values are display values (sRGB, not linear light) and are clipped to their range. Grey goes through a colour
    network as three equal channels and comes back as their mean. Alpha is resampled with Magic Kernel Sharp 2021;
    colour under full transparency does not bleed into what is visible.

    Several threads may use one Upscaler at a time: nothing is kept of a picture. Two things are theirs to see to: the
    network must be in evaluation mode (as loaded ones are; one in training is set to evaluation and back for each
    tile), and the memory for a tile is reckoned as if one thread worked.

    Args:
        model: a model name, file (ONNX too) or run folder; `bicubic` or `mks2021`; or a network with a `.spec`, used
            as it is (not folded; moved only if `device` is named); None = the one for clean pictures that comes with
            the package for `scale`, such as tiny-x4.
        scale: needed for the classical upsamplers; for a network it must equal the network's own, if given. 4 where
            neither it nor a model is named.
        tile: largest side of a tile in input pixels; "auto" = from free memory; "off" = whole pictures at once.
        precision: of a network's convolutions and matrix products; classical upsamplers always compute in fp32. INT8
            and FP8 are refused (docs/precision.md).
        attention_share: share of windows, above 0 to 1, that get attention: the hardest ones, chosen once for the
            whole picture; less is faster. None = as the network is set (`Generator.set_routing`), usually 1.
        sharpness: of a generator's upsampler, 0 to 2: below 1 softer, above 1 sharper than learned.
        tta: self-ensemble: a network's mean over the eight flips and turns of each tile (Lim et al. 2017, EDSR+), for
            eight times the work; classical upsamplers, whose kernels are symmetric, give the same either way.
        linear: whether what is resampled with a fixed kernel (by the classical upsamplers, and to a `size`) is light
            instead of display values: sRGB is decoded before and encoded after. Never what a network does, nor alpha.
        accelerate: whether known attention layers of a network of another project, loaded here from its file, are
            swapped for fused ones that compute the same (`sr_engine.accelerate`); one line of the log says which.

    Attributes:
        name: what the model calls itself in tables and reports.
        scale: output size / input size of the network.
        spec: the network's ModelSpec.

    Raises:
        EngineError: a model, scale, device, tile or precision that does not exist or does not fit.
    """

    def __init__(
        self,
        model: str | Path | nn.Module | None = None,
        *,
        scale: int | None = None,
        device: str = "auto",
        tile: Tile = "auto",
        precision: Precision = "auto",
        attention_share: float | None = None,
        sharpness: float = 1.0,
        accelerate: bool = True,
        tta: bool = False,
        linear: bool = False,
    ) -> None:
        if (isinstance(tile, int) and tile < MIN_TILE) or (isinstance(tile, str) and tile not in ("auto", "off")):
            raise EngineError(f"tile {tile} cannot be used: expected auto, off or at least {MIN_TILE} pixels.")
        check_precision(precision)
        self.net, self.name, self.device = load(model, scale, device, accelerate=accelerate)
        self.passes = Passes(
            self.net,
            self.name,
            self.device,
            compute_dtype(self.net, precision, self.device),
            tile=tile,
            attention_share=attention_share,
            sharpness=sharpness,
            tta=tta,
            linear=linear,
        )
        self.spec, self.linear = self.passes.spec, linear
        self.scale = self.spec.scale
        if scale is not None and scale != self.scale:
            raise EngineError(f"model '{self.name}' upscales by {self.scale}, not by {scale}: leave the scale out.")

    def __call__(
        self, picture: Picture, *, size: tuple[int, int] | None = None, on_tile: OnTile | None = None
    ) -> Picture:
        """The picture, `scale` times as wide and high or of another size, in the form it came in.

        Args:
            size: (height, width) of the result: the network's, resized with Magic Kernel Sharp 2021; a classical
                upsampler goes there in one step, with its own kernel. See `sr_engine.infer.resize.target_size`.
            on_tile: called after each tile of the colour with (tiles done, tiles in all).

        Raises:
            TypeError, ValueError: not a picture of a form listed above, or no size.
            EngineError: memory does not suffice for the smallest tile, or the network gives NaN or Inf.
        """
        given, peak = (_checked_tensor(picture), 1.0) if isinstance(picture, Tensor) else _checked_array(picture)
        goal, row = self._size(given, size), 0
        with _told("its result"):
            out = _empty(picture, goal)
        target = out if isinstance(out, Tensor) else _nchw(out)
        for strip in self._strips(given, peak, goal, on_tile):
            row += store(strip, target[..., row:, :], peak)
        return out

    def rows(
        self, picture: np.ndarray, *, size: tuple[int, int] | None = None, on_tile: OnTile | None = None
    ) -> Generator[np.ndarray, None, None]:
        """What `__call__` gives for an array, as finished bands from top to bottom: (rows, W') or (rows, W', C).

        Each band is an array of its own. Besides the picture, memory holds one row of tiles as floats, never the whole
        result; the picture must not be changed meanwhile. The iterator may be given up at any time.

        Args, Raises: as `__call__`; what is wrong with the arguments is said at once, the rest while iterating.
        """
        given, peak = _checked_array(picture)
        goal = self._size(given, size)
        return _arrays(self._strips(given, peak, goal, on_tile), picture.dtype, picture.ndim, peak)

    def _strips(
        self, picture: Tensor, peak: float, size: tuple[int, int], on_tile: OnTile | None
    ) -> Iterator[tuple[Tensor, ...]]:
        """Colour, and alpha if there is any, of the same few rows: (B, C, rows, W') float32, clipped to 0..1."""
        with _told("the rows it needs at a time"):
            if picture.shape[1] in (1, 3):
                yield from in_step(self._colour(picture, peak, size, on_tile))
            else:
                colour, alpha = picture[:, :-1], picture[:, -1:]
                resized = ResizedRows((alpha.shape[-2], alpha.shape[-1]), size)
                filled = fill_transparent(colour, alpha, peak=peak)
                yield from in_step(
                    self._colour(filled, peak, size, on_tile), resized(source_rows(alpha, peak, self.device))
                )
        return_freed_memory()

    def _colour(self, picture: Tensor, peak: float, size: tuple[int, int], on_tile: OnTile | None) -> Iterator[Tensor]:
        height, width = picture.shape[-2:]
        direct = (height * self.scale, width * self.scale)
        if size == direct:
            return (band.clamp_(0, 1) for band in self.passes(picture, peak, on_tile))
        if self.passes.classical:
            resized = ResizedRows((height, width), size, kernel=self.spec.architecture, linear=self.linear)
            return resized(source_rows(picture, peak, self.device, on_tile))
        resized = ResizedRows(direct, size, linear=self.linear)
        return resized(band.clamp_(0, 1) for band in self.passes(picture, peak, on_tile))

    def _size(self, picture: Tensor, size: Sequence[int] | None) -> tuple[int, int]:
        if size is None:
            return picture.shape[-2] * self.scale, picture.shape[-1] * self.scale
        if len(size) != 2 or not all(isinstance(side, int | np.integer) and side >= 1 for side in size):
            raise ValueError(f"size must be (height, width) of at least 1, got {size}")
        return int(size[0]), int(size[1])


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Running out of memory, where nothing less can be tried, as one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EngineError(f"memory does not suffice for the picture and {what}: free some.") from error


def _empty(picture: Picture, size: tuple[int, int]) -> Picture:
    """Of the form of `picture`, (height, width) large."""
    if isinstance(picture, Tensor):
        return picture.new_empty((*picture.shape[:2], *size))
    return np.empty((*size, *picture.shape[2:]), picture.dtype)


def _checked_tensor(picture: Tensor) -> Tensor:
    if picture.dim() != 4 or not picture.is_floating_point() or picture.shape[1] not in (1, 2, 3, 4):
        found = f"{str(picture.dtype).removeprefix('torch.')} {tuple(picture.shape)}"
        raise ValueError(f"picture must be a float tensor (B, C, H, W) with 1 to 4 channels, got {found}")
    _check_not_empty(picture.shape)
    return picture.detach()


def _checked_array(picture: np.ndarray) -> tuple[Tensor, float]:
    """The picture as (1, C, H, W), and its highest value."""
    shape = np.shape(picture)
    if (
        not isinstance(picture, np.ndarray)
        or len(shape) not in (2, 3)
        or (len(shape) == 3 and shape[2] not in (1, 2, 3, 4))
    ):
        raise ValueError(f"picture must be an array (H, W) or (H, W, C) with C = 1 to 4, got shape {shape}")
    if picture.dtype not in _PEAKS and not np.issubdtype(picture.dtype, np.floating):
        raise TypeError(f"picture must be uint8, uint16 or float in 0..1, got {picture.dtype}")
    _check_not_empty(shape)
    return _nchw(picture), _PEAKS.get(picture.dtype, 1.0)


def _arrays(
    strips: Iterator[tuple[Tensor, ...]], dtype: np.dtype, dimensions: int, peak: float
) -> Generator[np.ndarray, None, None]:
    for strip in strips:
        channels = sum(part.shape[1] for part in strip)
        shape = (strip[0].shape[-2], strip[0].shape[-1], channels)
        band = np.empty(shape[:dimensions], dtype)
        store(strip, _nchw(band), peak)
        yield band


def _nchw(array: np.ndarray) -> Tensor:
    """(H, W) or (H, W, C) as (1, C, H, W), sharing memory unless read-only or of negative strides."""
    if array.ndim == 2:
        array = array[..., None]
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array).permute(2, 0, 1)[None]


def _check_not_empty(shape: Sequence[int]) -> None:
    if 0 in shape:
        raise ValueError(f"picture must have at least one pixel, got shape {tuple(shape)}")
