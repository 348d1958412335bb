"""How good the averaged weights are on pictures never trained on, in numbers and in crops to look at."""

import copy
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from sr_engine.atomic import atomic_write
from sr_engine.config.schema import Validation
from sr_engine.data import EvalPair
from sr_engine.infer.evaluate import EvalReport, ImageScore, evaluate
from sr_engine.infer.sheet import sharpest_square
from sr_engine.infer.upscaler import Upscaler
from sr_engine.train.distributed import World

Picture = NDArray[np.uint8]

CROP = 192  # side of the saved crops in pixels of the original


class Validator:
    """Scores a network on whole pictures, which the ranks share among them.

    Args:
        pairs: pictures with their low-resolution partners.
        scale: enlargement.
        validation: how many crops are saved, and the tiling.
        world: this process among those of the run.
    """

    def __init__(self, pairs: Sequence[EvalPair], *, scale: int, validation: Validation, world: World) -> None:
        self.pairs, self.scale, self.validation, self.world = pairs, scale, validation, world
        self._bicubic = Upscaler("bicubic", scale=scale)

    def __call__(self, net: nn.Module, name: str) -> tuple[EvalReport, dict[str, Picture]]:
        """Scores in fp32 of all pictures, and strips (bicubic | network | original) of the first ones by name.

        Every rank gets the same result; the network is left as it is.

        Raises:
            EngineError: the network gives NaN or Inf, or memory does not suffice.
        """
        upscale = Upscaler(inference_copy(net), tile=self.validation.tile, precision="fp32")
        strips: dict[str, Picture] = {}
        images: list[ImageScore] = []
        current: list[EvalPair] = []

        def mine() -> Iterator[EvalPair]:
            for index in range(self.world.rank, len(self.pairs), self.world.size):
                current[:] = [self.pairs[index]] if index < self.validation.save_images else []
                yield self.pairs[index]

        def upscale_and_keep(lr: Picture) -> Picture:
            sr = upscale(lr)
            for pair in current:
                strips[pair.name] = _strip([self._bicubic(lr), sr, pair.hr])
            return sr

        if self.world.rank < len(self.pairs):
            images = evaluate(upscale_and_keep, mine(), scale=self.scale, model=name).images
        parts = self.world.gather((images, strips))
        in_order = zip_longest(*(scores for scores, _ in parts))
        merged = [score for scores in in_order for score in scores if score is not None]
        return EvalReport(name, self.scale, merged), {name: strip for _, some in parts for name, strip in some.items()}


def inference_copy(net: nn.Module) -> nn.Module:
    """A copy in eval mode, with its re-parameterised convolutions folded where it has any."""
    copied = copy.deepcopy(net).eval()
    fold = getattr(copied, "fold", None)
    if fold is not None:
        fold()
    return copied


def save_strips(folder: Path, iteration: int, strips: dict[str, Picture]) -> None:
    """Write each strip to `<folder>/<picture>/<iteration>.png`, so that a picture's folder shows its progress."""
    for name, strip in strips.items():
        with atomic_write(folder / name / f"{iteration:08d}.png") as temporary:
            Image.fromarray(strip).save(temporary)


def _strip(pictures: list[Picture]) -> Picture:
    """The square with the strongest edges of the last picture, from each, with a white line between them."""
    side = min(CROP, *pictures[-1].shape[:2])
    top, left = sharpest_square(pictures[-1], side)
    crops = [picture[top : top + side, left : left + side] for picture in pictures]
    line = np.full((crops[0].shape[0], 2, 3), 255, np.uint8)
    return np.hstack([crops[0], line, crops[1], line, crops[2]])
