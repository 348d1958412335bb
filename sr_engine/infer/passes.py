"""A network over a picture: in tiles that memory allows, in ever smaller ones when it doesn't suffice."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from sr_engine.errors import EngineError
from sr_engine.infer.classical import ClassicalUpsampler
from sr_engine.infer.ensemble import ALL_TURNS, AS_IT_IS, Region, Turn
from sr_engine.infer.light import to_display, to_linear
from sr_engine.infer.memory import (
    MIN_TILE,
    auto_tile,
    is_out_of_memory,
    measure_bytes_per_pixel,
    release,
    waiting_rows,
)
from sr_engine.infer.routing import PictureRoutes
from sr_engine.infer.tiling import ORIGIN, Place, default_overlap, fitting_overlap, grid, tiled_rows
from sr_engine.models.generator import Generator
from sr_engine.models.spec import HasSpec

logger = logging.getLogger(__name__)

Tile = int | Literal["auto", "off"]
OnTile = Callable[[int, int], None]

# A picture of this side or less fits any machine that can hold the network, so nothing is measured for it.
_SMALL = 256


class Tiles(NamedTuple):
    """Largest (height, width) of a tile and what neighbours share below and beside each other; None = no tiles."""

    tile: tuple[int, int] | None
    overlap: tuple[int, int]


class Work(NamedTuple):
    """A picture (B, C, H, W) in 0..peak, and which of its windows get attention, by the turn it is looked at in."""

    picture: Tensor
    peak: float
    routes: dict[Turn, PictureRoutes]

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.shape[-2], self.picture.shape[-1]


class Passes:
    """A network, and what was learnt about the memory that it takes. The arguments are those of `Upscaler`."""

    def __init__(
        self,
        net: nn.Module,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        *,
        tile: Tile,
        attention_share: float | None,
        sharpness: float,
        tta: bool,
        linear: bool,
    ) -> None:
        self.net, self.name, self.device, self.dtype = net, name, device, dtype
        self.tile: Tile = tile
        self.spec = cast(HasSpec, net).spec
        self.attention_share, self.sharpness = attention_share, sharpness
        self.classical = isinstance(net, ClassicalUpsampler)
        self.linear = linear and self.classical
        # The kernels of classical upsamplers are symmetric: all turns give the same.
        self.turns = ALL_TURNS if tta and not self.classical else (AS_IT_IS,)
        self.smallest = max(MIN_TILE, 2 * self.spec.size_multiple)
        # Measured at the first large picture, where the network doesn't know: torch doesn't see onnxruntime's memory.
        self.bytes_per_pixel: float | None = getattr(net, "bytes_per_pixel", None)
        if self.bytes_per_pixel is not None and len(self.turns) > 1:
            self.bytes_per_pixel += 2 * 4 * self.spec.channels * self.spec.scale**2  # the sum, and a result turned back
        self.largest_side: int | None = None  # of a tile, learnt from running out of memory
        self._check_controls()

    def __call__(self, picture: Tensor, peak: float, on_tile: OnTile | None = None) -> Iterator[Tensor]:
        """Finished bands (B, C, rows, W*scale) float32, about 0..1, on the device.

        Args:
            picture: (B, 1|3, H, W) in 0..peak, of any dtype and device.
            on_tile: called after each tile with (tiles done, tiles in all); running out of memory makes it more tiles.

        Raises:
            EngineError: memory does not suffice for the smallest tile, or the network gives NaN or Inf.
        """
        work = Work(picture, peak, self._routes(picture, peak))
        scale, multiple, height = self.spec.scale, self.spec.size_multiple, picture.shape[-2]
        done = tiles_done = 0
        while done < height * scale:
            tiles = self._tiles(work)
            # After running out of memory: from above the first row that is missing, with the context that it needs.
            top = max(0, done // scale - tiles.overlap[0]) // multiple * multiple
            part, skip = picture[..., top:, :], done - top * scale
            rows, columns = grid((part.shape[-2], part.shape[-1]), **tiles._asdict(), multiple=multiple)
            run = _Counted(partial(self._tile, work), on_tile, tiles_done, tiles_done + len(rows) * len(columns))
            bands = tiled_rows(run, part, **tiles._asdict(), scale=scale, multiple=multiple, place=Place(top, 0))
            try:
                for band in bands:
                    fresh = band[..., skip:, :]
                    skip = max(0, skip - band.shape[-2])
                    if fresh.shape[-2]:
                        done += fresh.shape[-2]
                        yield fresh
                    del fresh
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._check_side(run.side, error)
            if done < height * scale:  # outside of the except block, whose traceback would keep the tensors alive
                band = bands = None
                self._shrink(run.side)
                tiles_done = run.done

    def prepared(self, x: Tensor, *, peak: float) -> Tensor:
        """(B, 1|3, h, w) in 0..peak of any dtype as the network takes it, on the device; grey as three channels."""
        low, high = self.spec.value_range
        grey = x.shape[1] == 1 and not self.classical
        x = x.to(self.device).float() / peak
        if grey:
            x = x.expand(-1, self.spec.channels, -1, -1)
        return (low + (high - low) * x).contiguous(memory_format=torch.channels_last)

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

    def _routes(self, picture: Tensor, peak: float) -> dict[Turn, PictureRoutes]:
        if not isinstance(self.net, Generator):
            return {}
        share = self.net.attention_share if self.attention_share is None else self.attention_share
        prepare = partial(self.prepared, peak=peak)
        return {turn: PictureRoutes(self.net, prepare, picture, share, turn) for turn in self.turns}

    def _tiles(self, work: Work) -> Tiles:
        side = self._side(work)
        overlap, multiple = default_overlap(self.spec), self.spec.size_multiple
        if side is None or max(work.size) <= side:
            return Tiles(None, (overlap, overlap))
        batch, channels = work.picture.shape[:2]
        # As many rows again wait for those below, or are being blended.
        row = 2 * 4 * batch * channels * work.size[1] * self.spec.scale**2
        height = side if self.tile == "off" else min(side, max(waiting_rows(row, self.device), self.smallest))
        fitting = fitting_overlap(height, overlap, multiple), fitting_overlap(side, overlap, multiple)
        if fitting[0] < overlap:
            logger.info("tiles of %d pixels share %d: the result differs slightly from untiled", height, fitting[0])
        return Tiles((height, side), fitting)

    def _side(self, work: Work) -> int | None:
        """The largest side of a tile for this picture; None = in one pass."""
        if self.tile == "off" or (self.tile == "auto" and max(work.size) <= _SMALL):
            return self.largest_side
        if isinstance(self.tile, int):
            side = max(self.tile, self.smallest)
        else:
            if self.bytes_per_pixel is None:
                run = partial(self._tile, work._replace(routes={}), place=ORIGIN)
                try:
                    self.bytes_per_pixel = measure_bytes_per_pixel(run, work.picture, self.device)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    return self.smallest
            side = auto_tile(self.bytes_per_pixel * len(work.picture), self.device, smallest=self.smallest)
        return min(side, self.largest_side or side)

    def _check_side(self, side: int, error: BaseException) -> None:
        if side <= self.smallest:
            raise EngineError(
                f"memory of {self.device} does not suffice for a tile of {side} pixels with '{self.name}': "
                "free some, or use another device."
            ) from error

    def _shrink(self, side: int) -> None:
        self.largest_side = max(side // 2, self.smallest)
        logger.warning("out of memory on %s: going on with tiles of %d pixels", self.device, self.largest_side)
        release(self.device)

    def _tile(self, work: Work, x: Tensor, place: Place) -> Tensor:
        """The part of the picture that `x` is, at `place`, through the network: the mean over the turns."""
        region = Region(*place, place.top + x.shape[-2], place.left + x.shape[-1])
        height, width = (side * self.spec.scale for side in region.size)
        total: Tensor | None = None
        with torch.no_grad(), _evaluating(self.net):
            for turn in self.turns:
                needed = turn.needed(region, work.size, self.spec.size_multiple)
                part = needed.of(work.picture)
                attend = None
                if turn in work.routes:
                    size = needed.size[::-1] if turn.exchanged else needed.size
                    attend = work.routes[turn].part(*turn.place(needed, work.size), *size)
                result = turn.back(self._forward(turn(self.prepared(part, peak=work.peak)), attend))
                result = result[..., :height, :width]
                total = result if total is None else total.add_(result)
            assert total is not None, "there is at least one turn"
            total = total.div_(len(self.turns)) if len(self.turns) > 1 else total
            if x.shape[1] == 1 and not self.classical:
                total = total.mean(1, keepdim=True)
            if not total.sum().isfinite():
                raise EngineError(f"model '{self.name}' gives NaN or Inf on this picture: try precision fp32.")
        return total

    def _forward(self, x: Tensor, attend: float | list[Tensor] | None) -> Tensor:
        """(B, C, h, w) as the network takes it -> (B, C, h*scale, w*scale) fp32, about 0..1, on the device."""
        low, high = self.spec.value_range
        x = to_linear(x) if self.linear else x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            controls = {"attend": attend, "sharpness": self.sharpness} if isinstance(self.net, Generator) else {}
            y = self.net(x, **controls)
        y = to_display(y) if self.linear else y
        return (y.float() - low) / (high - low)


class _Counted:
    """`run` that reports how many tiles are done, and remembers the side of the last one."""

    def __init__(self, run: Callable[[Tensor, Place], Tensor], on_tile: OnTile | None, done: int, total: int) -> None:
        self.run, self.on_tile, self.done, self.total, self.side = run, on_tile, done, total, 0

    def __call__(self, x: Tensor, place: Place) -> Tensor:
        self.side = max(x.shape[-2:])
        result = self.run(x, place)
        self.done += 1
        if self.on_tile is not None:
            self.on_tile(self.done, self.total)
        return result


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode for the duration: a trainer may hand over the very network it trains."""
    training = [module for module in net.modules() if module.training]
    if training:
        net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
