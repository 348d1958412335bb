"""Learned measures of how alike two pictures look (LPIPS, DISTS and others), from the package pyiqa.

pyiqa fetches the weights of a measure when it is first used and keeps them in torch's hub folder
(`$TORCH_HOME/hub`, by default `~/.cache/torch/hub`); files put there by hand serve a machine without a network.
"""

import sys
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sr_engine.errors import DataError, EngineError, did_you_mean

EXTRA = "pip install 'sr-engine[metrics]'"


class PerceptualMetric:
    """One of pyiqa's measures that compare a picture with its original, such as lpips, dists, stlpips, gmsd.

    Called with two 8-bit pictures (H,W,3) of one size, the second the original, it gives one number.

    Args:
        name: as pyiqa calls it.
        device: what it computes on.

    Attributes:
        lower_better: whether the best value is the lowest.

    Raises:
        EngineError: pyiqa isn't installed, knows no such measure, or its weights are neither here nor within reach.
    """

    def __init__(self, name: str, device: str | torch.device = "cpu") -> None:
        pyiqa = _pyiqa(name)
        known = pyiqa.list_models(metric_mode="FR")
        if name not in known:
            text = f"metric '{name}' is none of pyiqa's that compare with an original{did_you_mean(name, known)}"
            raise EngineError(f"{text}; there are {', '.join(known)}.")
        self.name, self.device = name, torch.device(device)
        try:
            with redirect_stdout(sys.stderr):  # it says what it loads, which doesn't belong into a table
                self._metric = pyiqa.create_metric(name, device=self.device)
        except OSError as error:  # URLError and its like
            folder, reason = torch.hub.get_dir(), getattr(error, "reason", error)
            raise EngineError(
                f"metric {name}: its weights cannot be downloaded ({reason}); the lines above name the file, which is "
                f"used if it lies in its folder below {folder}."
            ) from error
        self.lower_better: bool = self._metric.lower_better

    def __call__(self, picture: NDArray[np.uint8], original: NDArray[np.uint8]) -> float:
        """The measure of `picture`.

        Raises:
            DataError: the pictures differ in size, or are too small for this measure.
        """
        if picture.shape != original.shape:
            raise DataError(
                f"metric {self.name}: pictures of one size expected, got {picture.shape}, {original.shape}."
            )
        tensors = (torch.tensor(p, device=self.device).permute(2, 0, 1)[None] / 255 for p in (picture, original))
        try:
            with torch.no_grad():
                return float(self._metric(*tensors))
        except (RuntimeError, ValueError, AssertionError) as error:
            height, width = original.shape[:2]
            raise DataError(f"metric {self.name} cannot judge a picture of {width}x{height} pixels: {error}") from error


def _pyiqa(name: str) -> Any:
    """The package; its types are unknown here, since it is optional."""
    try:
        import pyiqa  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        if error.name != "pyiqa":
            raise EngineError(f"metric {name}: pyiqa cannot be imported ({error}): {EXTRA}.") from error
        raise EngineError(f"metric {name} needs the package pyiqa: {EXTRA}.") from error
    return pyiqa
