"""From an opened file of any kind to samples (H, W, C) of 8 or 16 bits, as stored (TIFFs: upright)."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from sr_engine.data.deep import (
    has_separate_deep_planes,
    is_deep_ppm,
    is_deep_rgb,
    load_deep_ppm,
    load_deep_rgb,
    load_tiff,
)
from sr_engine.data.exif import ORIENTATION
from sr_engine.errors import ImageFileError


def decode(file: Any, path: Path, reopen: Callable[[], Any]) -> tuple[NDArray, list[str]]:
    """Samples (H, W, 1..4) of uint8 or uint16, alpha last, and notes of what was changed.

    Args:
        reopen: opens the same file again, not yet loaded.
    """
    notes: list[str] = []
    if has_separate_deep_planes(file):
        orientation = file.getexif().get(ORIENTATION, 1)
        samples = upright(load_tiff(file.fp, path), orientation)
    elif is_deep_rgb(file):
        samples = load_deep_rgb(file, reopen)
    elif is_deep_ppm(file):
        samples = load_deep_ppm(file, path)
    else:
        samples = np.asarray(_plain(file, path, notes))
    return samples[:, :, None] if samples.ndim == 2 else samples, notes


def upright(samples: NDArray, orientation: int) -> NDArray:
    """Undo an EXIF orientation (1..8, others count as 1) of an (H, W, C) array."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _plain(file: Pillow.Image, path: Path, notes: list[str]) -> Pillow.Image:
    """The picture in one of the modes L, LA, RGB, RGBA, I;16."""
    transparent = "transparency" in file.info
    match file.mode:
        case "L" | "RGB" if not transparent:
            file.load()
            return file
        case "1" | "L":
            return file.convert("LA" if transparent else "L")
        case "LA" | "La":
            return file.convert("LA")
        case "P" | "PA" | "RGB":
            return file.convert("RGBA" if transparent or file.mode == "PA" else "RGB")
        case "RGBA" | "RGBa":
            return file.convert("RGBA")
        case "LAB":
            notes.append("Lab colour was converted to sRGB")
            return file.convert("RGB")
        case "RGBX" | "YCbCr" | "HSV":
            return file.convert("RGB")
        case "CMYK":
            return _cmyk_to_rgb(file, notes)
        case "I;16":
            file.load()
            return file
        case "I;16B" | "I;16L" | "I;16N":
            return file.convert("I").convert("I;16")
        case "I" if file.format == "PPM":  # deep grey, of 16 bits at most
            return file.convert("I;16")
    raise ImageFileError(f"{path}: has samples of kind '{file.mode}', expected 8 or 16 bits: convert it first.")


def _cmyk_to_rgb(file: Pillow.Image, notes: list[str]) -> Pillow.Image:
    if icc := file.info.get("icc_profile"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(file, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile: the plain conversion below is what viewers show then
        else:
            if converted is not None:
                notes.append("CMYK was converted to sRGB through its profile")
                return converted
    notes.append("CMYK without a usable profile was converted to RGB by the plain formula")
    return file.convert("RGB")
