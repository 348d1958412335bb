"""A teacher's outputs for whole training pictures on the disk: computed once, for any number of runs.

A folder is named after what decides its content: teacher, pictures, scale, self-ensemble and form of the numbers. It
has a safetensors file for each picture, written whole or not at all, so that work which was interrupted goes on; each
file says of which pixels it was made.
"""

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sr_engine.atomic import atomic_write
from sr_engine.data import PictureSet
from sr_engine.data.bicubic import bicubic_down
from sr_engine.data.pictures import Pixels
from sr_engine.errors import DataError
from sr_engine.train.checkpoint import writing
from sr_engine.train.distributed import World
from sr_engine.train.teacher import Teacher, ensembled

log = logging.getLogger(__name__)

Form = Literal["uint8", "float16"]

_FORMAT = 1
_NEWS_EVERY = 30.0  # seconds


class TeacherOutputs:
    """The outputs of a teacher for the pictures of a set.

    Args:
        teacher: computes what is missing.
        dataset: with bicubic degradation or ready-made LR.
        scale: of both.
        folder: where the folder of these outputs is, or will be.
        ensemble: mean over the 8 symmetries.
        form: uint8, or float16 in 0..1.

    Attributes:
        folder: of these outputs.
        pictures: hash of names and sizes of the pictures.

    Raises:
        DataError: LR pictures are drawn anew for every patch.
    """

    def __init__(
        self, teacher: Teacher, dataset: PictureSet, *, scale: int, folder: Path, ensemble: bool, form: Form
    ) -> None:
        if dataset.degradation.drawn:
            raise DataError(
                "distill.cache needs low-resolution pictures that stay the same, but the degradation "
                f"{dataset.degradation.type} is drawn anew for every patch: set distill.cache: null, or use "
                "degradation: bicubic."
            )
        self.teacher, self.dataset, self.scale = teacher, dataset, scale
        self.ensemble, self.form = ensemble, form
        names = [[p.name, *size] for p, size in zip(dataset.pictures, dataset.sizes, strict=True)]
        self.pictures = _digest(names)
        self._about = {"teacher": teacher.facts, "scale": scale, "self_ensemble": ensemble, "form": form}
        self.folder = folder / _digest([_FORMAT, teacher.facts["sha256"], scale, ensemble, form, self.pictures])

    def complete(self, world: World) -> None:
        """Compute what is missing; ranks share the work.

        Raises:
            DataError: a file there was made of other pixels, or is damaged.
            TrainingError: a file cannot be written.
        """
        missing = [k for k in range(world.rank, len(self.dataset), world.size) if not self._is_there(k)]
        if missing:
            count = len(self.dataset)
            log.info("teacher: %d outputs for %d pictures are computed into %s", len(missing), count, self.folder)
            about = {**self._about, "pictures": [picture.name for picture in self.dataset.pictures]}
            with writing(self.folder), atomic_write(self.folder / "about.json") as path:
                path.write_text(json.dumps(about, indent=1), encoding="utf-8")
        start = said = time.monotonic()
        for done, k in enumerate(missing, 1):
            self._compute(k)
            if (now := time.monotonic()) - said > _NEWS_EVERY:
                left = (now - start) / done * (len(missing) - done) / 60
                log.info("teacher: %d of %d outputs, about %.0f minutes left", done, len(missing), left)
                said = now
        world.barrier()

    def read(self, k: int) -> NDArray:
        """Output for picture `k`: (h * scale, w * scale, 3) of the form."""
        path = self._path(k)
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_tensor("output").numpy()
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: not a complete output of a teacher ({error}): delete it.") from error

    def _path(self, k: int) -> Path:
        return self.folder / f"{k:06d}.safetensors"

    def _is_there(self, k: int) -> bool:
        """Whether the output for picture `k` has been computed, from the pixels that the picture has now."""
        path = self._path(k)
        if not path.exists():
            return False
        try:
            with safe_open(path, framework="pt") as file:
                made_of = (file.metadata() or {}).get("pixels")
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: not a complete output of a teacher ({error}): delete it.") from error
        if made_of != self._pixels(k)[1]:
            picture = self.dataset.pictures[k]
            raise DataError(
                f"{picture.hr}: has changed since the teacher's output for it was computed: bring the old one back, "
                f"delete {self.folder} to have all outputs computed anew, or name another distill.cache_folder."
            )
        return True

    def _compute(self, k: int) -> None:
        pixels, made_of = self._pixels(k)
        low = pixels.lr if pixels.lr is not None else bicubic_down(pixels.hr, self.scale)
        lr = torch.tensor(low, device=self.teacher.device).permute(2, 0, 1)[None].float() / 255.0
        upscale = self.teacher.pictures
        sr = (ensembled(upscale, lr) if self.ensemble else upscale(lr))[0].permute(1, 2, 0)
        path = self._path(k)
        with writing(path), atomic_write(path) as temporary:
            temporary.write_bytes(save({"output": self._formed(sr).cpu().contiguous()}, metadata={"pixels": made_of}))

    def _formed(self, sr: Tensor) -> Tensor:
        return (sr * 255.0).round().to(torch.uint8) if self.form == "uint8" else sr.to(torch.float16)

    def _pixels(self, k: int) -> tuple[Pixels, str]:
        """Pixels of picture `k` and their hash."""
        pixels = self.dataset.cache.get(self.dataset.pictures[k])
        digest = hashlib.blake2b(digest_size=16)
        for part in pixels:
            if part is not None:
                digest.update(np.ascontiguousarray(part).data)
        return pixels, digest.hexdigest()


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
