"""The demo set: real photographs that install with scikit-image, so that a first training needs no data.

| photograph | source | licence |
|---|---|---|
| astronaut | NASA Great Images, Eileen Collins, https://flic.kr/p/r9qvLn | public domain |
| hubble_deep_field | NASA, HubbleSite release 2012/37 | public domain |
| rocket | SpaceX Photos, https://www.flickr.com/photos/spacexphotos/16511594820 | public domain |
| chelsea | Stefan van der Walt | CC0 |
| coffee | Rachel Michetti | CC0 |
| retina | Mikael Häggström, Wikimedia Commons "Fundus photograph of normal left eye" | CC0 |

Trained on: rectangles of five photographs. Validated on: one photograph as a whole (rocket), and a crop of each of four
others that no training rectangle comes nearer to than `GUARD` pixels, so that no filter of the degradation or of a
network's input carries one over into the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sr_engine.config import registry
from sr_engine.data.pictures import Box, Picture
from sr_engine.data.sources import Common, Degradation, Role
from sr_engine.errors import DataError

GUARD = 16

# Weights balance natural photographs against the large, dull or noisy ones (stars, the inside of an eye).
TRAIN: Mapping[str, tuple[float, tuple[Box | None, ...]]] = {
    "astronaut.png": (4.0, (Box(0, 0, 280, 512), Box(0, 304, 512, 208))),
    "chelsea.png": (4.0, (Box(0, 0, 300, 248),)),
    "coffee.png": (4.0, (Box(0, 0, 192, 600), Box(0, 0, 400, 296))),
    "hubble_deep_field.jpg": (0.5, (Box(208, 0, 664, 1000), Box(0, 0, 872, 356))),
    "retina.jpg": (0.25, (None,)),
}
VAL: Mapping[str, tuple[str, Box | None]] = {
    "astronaut_badge": ("astronaut.png", Box(296, 96, 192, 192)),
    "chelsea_eye": ("chelsea.png", Box(60, 264, 156, 156)),
    "coffee_spoon": ("coffee.png", Box(208, 312, 192, 192)),
    "hubble_galaxies": ("hubble_deep_field.jpg", Box(0, 372, 192, 192)),
    "rocket": ("rocket.jpg", None),
}


@registry.register("dataset", "demo")
@dataclass(frozen=True, kw_only=True)
class Demo(Common):
    """Photographs that install with scikit-image; see this module for the list and licences.

    Args:
        degradation: how the low-resolution picture is made: `bicubic`, `photo`, `real_world`, or a mapping with its
            arguments, as for `folder`.
    """

    degradation: Degradation = "bicubic"
    on_bad_file: Literal["error", "skip"] = "skip"  # large patches do not fit into every rectangle

    def pictures(self, *, role: Role, scale: int) -> list[Picture]:
        """Training rectangles or validation crops; see `sr_engine.data.sources.Source`."""
        del scale
        folder = _folder()
        if role == "val":
            return [Picture(name, folder / file, box=box) for name, (file, box) in VAL.items()]
        return [
            Picture(Path(file).stem if len(boxes) == 1 else f"{Path(file).stem}_{k}", folder / file, None, box, weight)
            for file, (weight, boxes) in TRAIN.items()
            for k, box in enumerate(boxes)
        ]


def _folder() -> Path:
    """scikit-image's data folder, found without importing scikit-image."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the demo data set needs scikit-image: pip install scikit-image.")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    files = {*TRAIN, *(file for file, _ in VAL.values())}
    missing = sorted(file for file in files if not (folder / file).is_file())
    if missing:
        raise DataError(f"scikit-image in {folder} lacks {', '.join(missing)}: install another version of it.")
    return folder
