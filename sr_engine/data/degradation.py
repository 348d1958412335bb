"""What a degradation is: a way from high-resolution pixels to the low-resolution ones that a network is given."""

from collections.abc import Callable
from typing import ClassVar, Protocol

from numpy import uint8
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[uint8]


class Degradation(Protocol):
    """Pixels are (H, W, 3) uint8; results depend on the arguments alone.

    Attributes:
        type: name in a configuration.
        drawn: whether it draws random numbers, so that each patch has low-resolution pixels of its own.
        slow: whether one thread beside the training is too little for it, even on a machine of few cores.
    """

    drawn: ClassVar[bool]
    slow: ClassVar[bool]

    @property
    def type(self) -> str: ...

    def whole(self, hr: Pixels, scale: int, rng: Generator) -> Pixels:
        """A whole picture, to (H // scale, W // scale, 3)."""
        ...

    def patch(self, hr: Pixels, top: int, left: int, size: int, scale: int, rng: Generator) -> Pixels:
        """The patch (size, size, 3) of the HR pixels at (top, left), as a crop of the degraded picture."""
        ...


def cut_with_margin(
    reduce: Callable[[Pixels], Pixels], hr: Pixels, top: int, left: int, size: int, scale: int, margin: int
) -> Pixels:
    """The patch of what `reduce` makes of more than the patch: `margin` low-resolution pixels around it, where the
    picture has them."""
    before = [min(start // scale, margin) for start in (top, left)]
    after = [min((n - start) // scale - size, margin) for n, start in zip(hr.shape[:2], (top, left), strict=True)]
    first = [start - b * scale for start, b in zip((top, left), before, strict=True)]
    count = [(b + size + a) * scale for b, a in zip(before, after, strict=True)]
    low = reduce(hr[first[0] : first[0] + count[0], first[1] : first[1] + count[1]])
    return low[before[0] : before[0] + size, before[1] : before[1] + size]
