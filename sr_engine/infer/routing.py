"""Which windows of a picture get attention, decided once for the whole picture and handed to each of its tiles."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from sr_engine.infer.ensemble import AS_IT_IS, Turn
from sr_engine.layers.content import STATISTICS_REACH
from sr_engine.models.generator import Generator

Prepare = Callable[[Tensor], Tensor]

# Pixels whose statistics are computed at a time: some hundred bytes each.
_BAND = 2**19


class PictureRoutes:
    """The windows that `net` attends to in one picture; computed when a tile first asks.

    Args:
        prepare: any part of `picture` -> what the network gets, on its device.
        picture: (B, C, H, W), any dtype and device.
        share: of windows that get attention.
        turn: choose in the picture as turned by it; what `part` is asked for then lies there.
    """

    def __init__(self, net: Generator, prepare: Prepare, picture: Tensor, share: float, turn: Turn = AS_IT_IS) -> None:
        self.net, self.prepare, self.picture, self.share, self.turn = net, prepare, picture, share, turn
        height, width = picture.shape[-2:]
        self.size = (width, height) if turn.exchanged else (height, width)

    def part(self, top: int, left: int, height: int, width: int) -> float | list[Tensor]:
        """What the network attends to in the part at these pixels, as `Generator.forward` takes it."""
        if self.share == 1 or (height, width) == self.size:
            return self.share
        window = self.net.layout.window
        rows = slice(top // window, -(-(top + height) // window))
        columns = slice(left // window, -(-(left + width) // window))
        return [chosen[..., rows, columns] for chosen in self._chosen]

    @cached_property
    def _chosen(self) -> list[Tensor]:
        difficulty = difficulty_in_bands(self.net, self.prepare, self.turn(self.picture))
        return [route.chosen for route in self.net.choose(difficulty, self.share)]


def difficulty_in_bands(net: Generator, prepare: Prepare, picture: Tensor, *, pixels: int = _BAND) -> Tensor:
    """`net.difficulty` of a picture of any size, from bands of its rows of about `pixels` pixels each."""
    height, window, multiple = picture.shape[-2], net.layout.window, net.spec.size_multiple
    margin = _round_up(STATISTICS_REACH, multiple)
    step = max(_round_up(pixels // (len(picture) * picture.shape[-1]), multiple), 2 * margin)
    bands: list[Tensor] = []
    for top in range(0, height, step):
        first = max(top - margin, 0)
        found = net.difficulty(prepare(picture[..., first : top + step + margin, :]))
        skipped = (top - first) // window
        bands.append(found[..., skipped : skipped + step // window, :])
    return torch.cat(bands, -2)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
