"""Whether memory stays flat over many pictures: `python -m bench.soak --pictures 2000`.

One process upscales pictures of random sizes (sides of 16 to 160 pixels), forms (grey, RGB, RGBA; 8 and 16 bits) and,
a third of them, target sizes. Its resident memory is read after each; the mean over the last quarter of the pictures
after the warm-up is compared with that over the first.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
WARM_UP = 200


class Soak(NamedTuple):
    """Resident bytes early and late, their ratio, and the highest after the warm-up."""

    early: float
    late: float
    most: int

    @property
    def growth(self) -> float:
        return self.late / self.early - 1


def soak(pictures: int, *, model: str = "tiny-x4", warm_up: int = WARM_UP, largest: int = 160, seed: int = 0) -> Soak:
    """Upscale so many pictures one after the other, in this process."""
    from sr_engine.infer.upscaler import Upscaler

    up = Upscaler(model, device="cpu", precision="fp32")
    resident = []
    for i, (picture, size) in enumerate(_jobs(pictures, largest, up.scale, seed)):
        up(picture, size=size)
        if i >= warm_up:
            resident.append(resident_bytes())
    quarter = max(1, len(resident) // 4)
    return Soak(mean(resident[:quarter]), mean(resident[-quarter:]), max(resident))


def resident_bytes() -> int:
    """Of this process, now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _jobs(count: int, largest: int, scale: int, seed: int) -> Iterator[tuple[np.ndarray, tuple[int, int] | None]]:
    generator = np.random.default_rng(seed)
    for _ in range(count):
        height, width = (int(side) for side in generator.integers(16, largest, 2, endpoint=True))
        shape = (height, width, *[(), (3,), (4,)][generator.integers(3)])
        dtype = [np.uint8, np.uint16][generator.integers(2)]
        picture = generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        factor = generator.uniform(0.3, 1.5) * scale
        yield picture, (round(height * factor), round(width * factor)) if generator.integers(3) == 0 else None


def main(arguments: Sequence[str]) -> int:
    """Print what was found; 1 where memory grew by more than 5 %."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--model", default="tiny-x4")
    parser.add_argument("--largest", type=int, default=160, metavar="PIXELS", help="of a side")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    found = soak(options.pictures, model=options.model, largest=options.largest)
    early, late, most = (value / 2**20 for value in found)
    print(
        f"{options.pictures} pictures in {time.perf_counter() - start:.0f} s with {options.model}: "
        f"resident {early:.1f} MiB early, {late:.1f} late ({found.growth:+.1%}), at most {most:.1f}"
    )
    return int(found.growth > 0.05)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    raise SystemExit(main(sys.argv[1:]))
