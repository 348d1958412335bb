"""Where a picture has detail: the chance of a training patch grows with its difficulty.

The mean absolute Laplacian of the low-resolution luma predicts a patch's reconstruction error about as well as any
statistic does, and its square root is a good sampling density.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

_BINS = 4  # patches overlap their neighbours in the grid by 3/4


def grid_step(patch_size: int) -> int:
    """Distance of the grid of patch positions, in LR pixels."""
    return max(1, patch_size // _BINS)


def patch_detail(hr: NDArray[np.uint8], scale: int, patch_size: int) -> NDArray[np.float32]:
    """(mean |Laplacian|)^0.5 of the LR patches whose corners lie on a grid of `grid_step`, as (rows, columns).

    Args:
        hr: (H, W, 3) with H // scale and W // scale not below `patch_size`.
    """
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    luma = Pillow.fromarray(hr).convert("L").resize((width, height), Pillow.Resampling.BOX)
    y = np.pad(np.asarray(luma, np.float32), 1, mode="edge")
    laplacian = np.abs(4.0 * y[1:-1, 1:-1] - y[:-2, 1:-1] - y[2:, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:])
    total = np.pad(laplacian.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    rows = np.arange(0, height - patch_size + 1, grid_step(patch_size))[:, None]
    columns = np.arange(0, width - patch_size + 1, grid_step(patch_size))[None, :]
    bottom, right = rows + patch_size, columns + patch_size
    sums = total[bottom, right] - total[rows, right] - total[bottom, columns] + total[rows, columns]
    # Never quite 0: a flat picture must remain drawable.
    return np.sqrt(np.maximum(sums / patch_size**2, 1e-3)).astype(np.float32)
