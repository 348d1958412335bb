"""Pictures in and out of files: what the eye sees goes into `pixels`, everything else is kept beside it.

Values stay as displayed (sRGB or whatever the ICC profile says, never linear light) and keep their bit depth.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from sr_engine.atomic import atomic_write
from sr_engine.data.deep import encode_png16, has_separate_deep_planes, is_deep_rgb, load_deep_rgb
from sr_engine.errors import EngineError, ImageFileError

# Decoders that run other programs (EPS) or are rarely fuzzed stay shut.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".avif"})

_WRITERS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Image:
    """A decoded picture, upright.

    pixels: (H, W, 3) RGB or (H, W, 1) grey, uint8 or uint16, full range.
    alpha:  (H, W) of the same dtype, or None when the file has no transparency; colour is not premultiplied.
    icc:    colour profile of `pixels`, None when the file has none or its profile was for another colour model.
    exif:   EXIF block without the orientation, which `pixels` has already; None when there is none.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    alpha: NDArray[np.uint8] | NDArray[np.uint16] | None = None
    icc: bytes | None = None
    exif: bytes | None = None


def read_image(path: str | Path) -> Image:
    """Decode a PNG, JPEG, WebP, TIFF, BMP, GIF, PPM or AVIF file (of several frames the first).

    The EXIF orientation is applied. Palettes and 1-bit pictures are expanded; CMYK goes through its profile to sRGB
    where there is one; 16-bit grey and RGB stay 16-bit.

    Raises:
        ImageFileError: missing, not a picture, truncated, 32-bit samples, or a header that says more than 178,956,970
            pixels (twice `PIL.Image.MAX_IMAGE_PIXELS`), before memory is taken for them.
    """
    path = Path(path)
    with _NamedErrors(path), Pillow.open(path, formats=FORMATS) as file:
        # Before `getexif`: that decodes a PNG, and what Pillow then holds has 8 bits.
        if is_deep_rgb(file):
            samples = load_deep_rgb(file, lambda: Pillow.open(path, formats=FORMATS))
        else:
            samples = np.asarray(_plain(file, path))
        exif = file.getexif()
        orientation = exif.pop(_ORIENTATION, 1)
        # A TIFF's "EXIF" is its own directory of strips and sizes: wrong in any other file.
        block = exif.tobytes() if len(exif) and file.format != "TIFF" else None
        icc = file.info.get("icc_profile") if file.mode not in ("CMYK", "LAB") else None
        samples = _upright(samples[:, :, None] if samples.ndim == 2 else samples, orientation)
    channels = samples.shape[2]
    if channels in (2, 4):
        return Image(np.ascontiguousarray(samples[:, :, :-1]), np.ascontiguousarray(samples[:, :, -1]), icc, block)
    return Image(np.ascontiguousarray(samples), None, icc, block)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width as displayed, read from the header alone.

    Raises:
        ImageFileError: as `read_image`, as far as the header shows.
    """
    path = Path(path)
    with _NamedErrors(path), Pillow.open(path, formats=FORMATS) as file:
        width, height = file.size
        # Asking a PNG without EXIF in its header for EXIF would decode all of it.
        known = file.format != "PNG" or "exif" in file.info
        turned = known and file.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return (width, height) if turned else (height, width)


def write_image(path: str | Path, image: Image | NDArray, *, quality: int = 95) -> None:
    """Write a picture; the suffix chooses the format, and the old file stays until the new one is whole.

    Args:
        path: .png, .jpg, .webp, .tif or .bmp. 16-bit samples stay 16-bit in PNG and are rounded to 8 bits elsewhere.
        image: an `Image`, or an array (H, W), (H, W, 1), (H, W, 3) of uint8 or uint16.
            Alpha is composed over white where the format has none (JPEG, BMP).
        quality: of JPEG and WebP, 1..100.

    Raises:
        ImageFileError: unknown suffix, or the file cannot be written (folder missing rights, disk full).
    """
    path = Path(path)
    if not isinstance(image, Image):
        image = Image(image[:, :, None] if image.ndim == 2 else image)
    form = output_format(path)
    try:
        content = _encode(image, form, quality)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except (OSError, ValueError) as error:  # ValueError: larger than the format allows, as WebP beyond 16383 pixels
        reason = getattr(error, "strerror", None) or error
        raise ImageFileError(f"{path}: cannot be written: {reason}.") from error


def output_format(path: str | Path) -> str:
    """Pillow's name of the format that the suffix of a picture file to be written stands for.

    Raises:
        ImageFileError: unknown suffix.
    """
    path = Path(path)
    if form := _WRITERS.get(path.suffix.lower()):
        return form
    raise ImageFileError(f"{path}: cannot write '{path.suffix}' files, use one of {', '.join(_WRITERS)}.")


def to_float(pixels: NDArray) -> NDArray[np.float32]:
    """uint8 or uint16 samples as float32 in [0, 1]; floats pass through as float32."""
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32, copy=False)
    return np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)


def from_float(values: NDArray, dtype: type[np.unsignedinteger] = np.uint8) -> NDArray:
    """Floats in [0, 1] as uint8 or uint16: clipped, then rounded to nearest."""
    top = np.iinfo(dtype).max
    return np.rint(np.clip(values, 0.0, 1.0) * top).astype(dtype)


def to_uint8(pixels: NDArray) -> NDArray[np.uint8]:
    """uint16 rounded to 8 bits (65535 / 255 = 257 exactly); uint8 as it is."""
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_rgb(pixels: NDArray) -> NDArray:
    """(H, W, 1) grey replicated to (H, W, 3); RGB as it is."""
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


class _NamedErrors:
    """Turn whatever a decoder throws at damaged input (Pillow's throw nearly anything) into one sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        try:
            there, folder = self.path.is_file(), self.path.is_dir()
        except OSError as error:  # a name longer than the system's, or a folder that may not be looked into
            raise ImageFileError(f"{self.path}: cannot be opened: {error.strerror}.") from error
        if not there:
            state = "is a folder, expected a picture" if folder else "does not exist"
            raise ImageFileError(f"{self.path}: {state}.")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, EngineError) or not isinstance(error, Exception):
            return
        if isinstance(error, Pillow.DecompressionBombError):
            reason = f"has more than {2 * (Pillow.MAX_IMAGE_PIXELS or 0):,} pixels; cut it into parts first"
        elif isinstance(error, Pillow.DecompressionBombWarning):  # where warnings are made errors
            reason = f"has more than {Pillow.MAX_IMAGE_PIXELS or 0:,} pixels, which Pillow warns of: {error}"
        elif isinstance(error, PermissionError):
            reason = "cannot be opened: no permission"
        elif isinstance(error, Pillow.UnidentifiedImageError):
            reason = f"is not a picture in a known format ({', '.join(FORMATS)})"
        else:
            reason = f"is damaged or truncated ({str(error).rstrip('.') or type(error).__name__})"
        raise ImageFileError(f"{self.path}: {reason}.") from error


def _plain(file: Pillow.Image, path: Path) -> Pillow.Image:
    """The picture in one of the modes L, LA, RGB, RGBA, I;16."""
    if has_separate_deep_planes(file):
        raise ImageFileError(f"{path}: has 16-bit colour planes stored one after another: convert it to PNG first.")
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
        case "RGBX" | "YCbCr" | "HSV" | "LAB":
            return file.convert("RGB")
        case "CMYK":
            return _cmyk_to_rgb(file)
        case "I;16":
            file.load()
            return file
        case "I;16B" | "I;16L" | "I;16N":
            return file.convert("I").convert("I;16")
    raise ImageFileError(f"{path}: has samples of kind '{file.mode}', expected 8 or 16 bits: convert it first.")


def _cmyk_to_rgb(file: Pillow.Image) -> Pillow.Image:
    if icc := file.info.get("icc_profile"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(file, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile: the plain conversion below is what viewers show then
        else:
            if converted is not None:
                return converted
    return file.convert("RGB")


def _upright(samples: NDArray, orientation: int) -> NDArray:
    """Undo an EXIF orientation (1..8, others count as 1) of an (H, W, C) array."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _encode(image: Image, form: str, quality: int) -> bytes:
    pixels, alpha = image.pixels, image.alpha
    if pixels.dtype == np.uint16 and form == "PNG":
        return encode_png16(pixels, alpha, icc=image.icc, exif=image.exif)
    keep_16 = form == "TIFF" and pixels.dtype == np.uint16 and pixels.shape[2] == 1 and alpha is None
    if not keep_16:
        pixels, alpha = to_uint8(pixels), None if alpha is None else to_uint8(alpha)
    if alpha is not None and form in ("JPEG", "BMP"):
        opacity = to_float(alpha)[:, :, None]
        pixels, alpha = from_float(to_float(pixels) * opacity + 1.0 - opacity), None
    if alpha is not None:
        pixels = np.concatenate((pixels, alpha[:, :, None]), axis=2)
    picture = Pillow.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    options: dict[str, object] = {"icc_profile": image.icc} if image.icc else {}
    if image.exif and form in ("JPEG", "PNG", "WEBP"):
        options["exif"] = image.exif
    if form in ("JPEG", "WEBP"):
        options["quality"] = quality
    if form == "TIFF":
        options["compression"] = "tiff_lzw"
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()
