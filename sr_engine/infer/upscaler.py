"""One object that upscales pictures, whatever they come as: `out = Upscaler("tiny-x4")(picture)`."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from sr_engine.device import Precision, check_precision
from sr_engine.errors import EngineError
from sr_engine.infer.classical import ClassicalUpsampler, fill_transparent
from sr_engine.infer.loading import compute_dtype, load
from sr_engine.infer.memory import MIN_TILE, auto_tile, is_out_of_memory, measure_bytes_per_pixel
from sr_engine.infer.routing import PictureRoutes
from sr_engine.infer.tiling import ORIGIN, Place, default_overlap, fitting_overlap, joined, tiled_rows
from sr_engine.models.generator import Generator
from sr_engine.models.spec import HasSpec

logger = logging.getLogger(__name__)

Picture = TypeVar("Picture", np.ndarray, Tensor)
Tile = int | Literal["auto", "off"]

# A picture of this side or less fits any machine that can hold the network, so nothing is measured for it.
_SMALL = 256
# Rows that are rounded at a time, so that a band isn't copied whole.
_STRIP = 64


class Upscaler:
    """Upscales pictures with a network or a classical upsampler, tile by tile where memory asks for it.

    Pictures go in and come out in the same form:
        numpy (H, W) or (H, W, C) with C = 1, 2 (grey + alpha), 3 or 4 (RGB + alpha); uint8, uint16, or float in 0..1
        torch (B, C, H, W) float in 0..1, C as above, on any device
    Values are display values (not linear light) and are clipped to their range. Grey goes through a colour network as
    three equal channels and comes back as their mean. Alpha is resampled with Magic Kernel Sharp 2021; colour under
    full transparency does not bleed into what is visible.

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
        accelerate: whether known attention layers of a network of another project, loaded here from its file, are
            swapped for fused ones that compute the same (`sr_engine.accelerate`); one line of the log says which.

    Attributes:
        name: what the model calls itself in tables and reports.
        scale: output size / input size.
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
    ) -> None:
        if (isinstance(tile, int) and tile < MIN_TILE) or (isinstance(tile, str) and tile not in ("auto", "off")):
            raise EngineError(f"tile {tile} cannot be used: expected auto, off or at least {MIN_TILE} pixels.")
        check_precision(precision)
        self.net, self.name, self.device = load(model, scale, device, accelerate=accelerate)
        self.spec = cast(HasSpec, self.net).spec
        self.scale = self.spec.scale
        if scale is not None and scale != self.scale:
            raise EngineError(f"model '{self.name}' upscales by {self.scale}, not by {scale}: leave the scale out.")
        classical = isinstance(self.net, ClassicalUpsampler)
        self.dtype = torch.float32 if classical else compute_dtype(self.net, precision, self.device)
        self.tile: Tile = tile
        self.attention_share, self.sharpness = attention_share, sharpness
        self._check_controls()
        self._alpha_net = ClassicalUpsampler("mks2021", self.scale)
        # Measured at the first large picture, where the network doesn't know: torch doesn't see onnxruntime's memory.
        self._bytes_per_pixel: float | None = getattr(self.net, "bytes_per_pixel", None)
        self._largest_side: int | None = None  # of a pass, learnt from running out of memory

    def __call__(self, picture: Picture) -> Picture:
        """The picture, `scale` times as wide and high, in the form it came in.

        Raises:
            TypeError, ValueError: not a picture of a form listed above.
            EngineError: memory does not suffice for the smallest tile, or the network gives NaN or Inf.
        """
        with torch.no_grad(), _evaluating(self.net):
            if isinstance(picture, Tensor):
                return self._tensor(picture)
            return self._array(picture)

    def _tensor(self, picture: Tensor) -> Tensor:
        if picture.dim() != 4 or not picture.is_floating_point() or picture.shape[1] not in (1, 2, 3, 4):
            found = f"{str(picture.dtype).removeprefix('torch.')} {tuple(picture.shape)}"
            raise ValueError(f"picture must be a float tensor (B, C, H, W) with 1 to 4 channels, got {found}")
        _check_not_empty(picture.shape)
        b, c, h, w = picture.shape
        out = picture.new_empty((b, c, h * self.scale, w * self.scale))
        self._fill(picture, out, peak=1.0)
        return out

    def _array(self, picture: np.ndarray) -> np.ndarray:
        shape = np.shape(picture)
        if (
            not isinstance(picture, np.ndarray)
            or len(shape) not in (2, 3)
            or (len(shape) == 3 and shape[2] not in (1, 2, 3, 4))
        ):
            raise ValueError(f"picture must be an array (H, W) or (H, W, C) with C = 1 to 4, got shape {shape}")
        peaks = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
        if picture.dtype not in peaks and not np.issubdtype(picture.dtype, np.floating):
            raise TypeError(f"picture must be uint8, uint16 or float in 0..1, got {picture.dtype}")
        _check_not_empty(shape)
        out = np.empty((shape[0] * self.scale, shape[1] * self.scale, *shape[2:]), picture.dtype)
        self._fill(_nchw(picture), _nchw(out), peak=peaks.get(picture.dtype, 1.0))
        return out

    def _fill(self, picture: Tensor, out: Tensor, peak: float) -> None:
        """Upscale `picture` (B, C, H, W) into `out`; both hold values in 0..peak, on a device of their own."""
        if picture.shape[1] in (1, 3):
            self._write(self._rows(self.net, picture, peak), out, peak)
            return
        alpha = picture[:, -1:].float() / peak
        colour = fill_transparent(picture[:, :-1].float() / peak, alpha)
        self._write(self._rows(self.net, colour, 1.0), out[:, :-1], peak)
        self._write(self._rows(self._alpha_net, alpha, 1.0), out[:, -1:], peak)

    def _check_controls(self) -> None:
        share, sharpness = self.attention_share, self.sharpness
        if not 0 <= sharpness <= 2:
            raise EngineError(f"sharpness {sharpness} cannot be used: expected 0 to 2, 1 being as learned.")
        if isinstance(self.net, Generator):
            if share is not None:
                self.net.check_share(share)
        elif share not in (None, 1) or sharpness != 1:
            control = "sharpness" if sharpness != 1 else "attention share"
            raise EngineError(f"'{self.name}' has no control of {control}: only networks of type generator have.")

    def _rows(self, net: nn.Module, picture: Tensor, peak: float) -> Iterator[Tensor]:
        spec = cast(HasSpec, net).spec
        routes = None
        if isinstance(net, Generator):
            share = net.attention_share if self.attention_share is None else self.attention_share
            routes = PictureRoutes(net, partial(self._prepared, peak=peak, grey=picture.shape[1] == 1), picture, share)
        run = partial(self._pass, net, peak, routes)
        tile = self._side(partial(self._pass, net, peak, None, place=ORIGIN), picture)
        overlap = default_overlap(spec)
        if tile is not None and tile < max(picture.shape[-2:]):
            needed, overlap = overlap, fitting_overlap(tile, overlap, spec.size_multiple)
            if overlap < needed:
                logger.info("tiles of %d pixels share %d: the result differs slightly from untiled", tile, overlap)
        return tiled_rows(run, picture, tile=tile, overlap=overlap, scale=self.scale, multiple=spec.size_multiple)

    def _side(self, run: Callable[[Tensor], Tensor], picture: Tensor) -> int | None:
        """The largest side of a tile for this picture; None = in one pass."""
        if self.tile == "off":
            return None
        smallest = max(MIN_TILE, 2 * self.spec.size_multiple)
        if isinstance(self.tile, int):
            return max(self.tile, smallest)
        if max(picture.shape[-2:]) <= _SMALL:
            return None
        if self._bytes_per_pixel is None:
            self._bytes_per_pixel = measure_bytes_per_pixel(run, picture, self.device)
        tile = auto_tile(self._bytes_per_pixel * picture.shape[0], self.device, smallest=smallest)
        return min(tile, self._largest_side or tile)

    def _pass(self, net: nn.Module, peak: float, routes: PictureRoutes | None, x: Tensor, place: Place) -> Tensor:
        """A part of a picture through the network; in ever smaller tiles when the device's memory doesn't suffice."""
        side = max(x.shape[-2:])
        spec = cast(HasSpec, net).spec
        if self._largest_side is None or side <= self._largest_side:
            try:
                return self._forward(net, peak, x, None if routes is None else routes.part(*place, *x.shape[-2:]))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                smallest = max(MIN_TILE, 2 * spec.size_multiple)
                if side <= smallest:
                    raise EngineError(
                        f"memory of {self.device} does not suffice for a tile of {side} pixels with '{self.name}': "
                        "free some, or use another device."
                    ) from error
            # Outside of the except block, whose traceback would keep the failed pass's tensors alive.
            self._largest_side = max(side // 2, smallest)
            logger.warning("out of memory on %s: going on with tiles of %d pixels", self.device, self._largest_side)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        tile, multiple = self._largest_side, spec.size_multiple
        overlap = fitting_overlap(tile, default_overlap(spec), multiple)
        run = partial(self._pass, net, peak, routes)
        rows = tiled_rows(run, x, tile=tile, overlap=overlap, scale=self.scale, multiple=multiple, place=place)
        return joined(rows, x.shape[-2] * self.scale)

    def _forward(
        self, net: nn.Module, peak: float, x: Tensor, attend: float | Sequence[Tensor] | None = None
    ) -> Tensor:
        """(B, 1|3, h, w) in 0..peak of any dtype -> (B, 1|3, h*scale, w*scale) fp32, about 0..1, on the device."""
        low, high = self.spec.value_range
        grey = x.shape[1] == 1 and not isinstance(net, ClassicalUpsampler)
        x = self._prepared(x, peak=peak, grey=grey)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            y = net(x, attend=attend, sharpness=self.sharpness) if isinstance(net, Generator) else net(x)
        y = (y.float() - low) / (high - low)
        return y.mean(1, keepdim=True) if grey else y

    def _prepared(self, x: Tensor, *, peak: float, grey: bool) -> Tensor:
        """(B, 1|3, h, w) in 0..peak of any dtype as the network takes it, on the device; grey as three channels."""
        low, high = self.spec.value_range
        x = x.to(self.device).float() / peak
        if grey:
            x = x.expand(-1, self.spec.channels, -1, -1)
        return (low + (high - low) * x).contiguous(memory_format=torch.channels_last)

    def _write(self, bands: Iterator[Tensor], out: Tensor, peak: float) -> None:
        row = 0
        for band in bands:
            if not band.sum().isfinite():
                raise EngineError(f"model '{self.name}' gives NaN or Inf on this picture: try precision fp32.")
            target = out[..., row : row + band.shape[-2], :]
            for part, place in zip(band.split(_STRIP, -2), target.split(_STRIP, -2), strict=True):
                values = part.clamp(0, 1).mul_(peak)
                place.copy_(values if place.is_floating_point() else values.round_())
            row += band.shape[-2]


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode for the duration: a trainer may hand over the very network it trains."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


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
