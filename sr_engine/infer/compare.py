"""One HTML page with a divider over two pictures of one scene, which needs nothing but itself to be looked at."""

import base64
import hashlib
import html
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from math import isinf
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from sr_engine.atomic import atomic_write, check_target
from sr_engine.data.images import Image, flattened, from_float, read_image, to_float, to_uint8
from sr_engine.errors import EngineError, ImageFileError
from sr_engine.infer.transparency import fill_transparent
from sr_engine.metrics import psnr_y, ssim_y
from sr_kernels import functional as K

FORMATS = ("png", "webp", "jpeg")
SUFFIXES = (".html", ".htm")

_LIMITS = {"webp": 16383, "jpeg": 65500}  # pixels of a side that the format, or its encoder, allows
_SMALLEST_SCORED = 11  # the window of SSIM
_OPTIONS = {"png": {}, "webp": {"lossless": True}, "jpeg": {"quality": 95, "subsampling": 0}}
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True)
class Comparison:
    """What a page says of its two pictures.

    labels: of the left and the right picture.
    size: (width, height) of both on the page, in pixels.
    enlarged: one sentence on which picture was enlarged and by how much; None where the sizes were equal.
    scores: PSNR-Y in dB and SSIM-Y of the two, no border left out, transparent pictures over white; None where the
        sizes or colour profiles differed or a side has less than 11 pixels.
    """

    labels: tuple[str, str]
    size: tuple[int, int]
    enlarged: str | None = None
    scores: tuple[float, float] | None = None


def compare_files(
    left: str | Path,
    right: str | Path,
    target: str | Path,
    *,
    labels: Sequence[str] | None = None,
    form: str | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Write a page with a divider over two picture files.

    Pictures of different size are brought to the larger's by Magic Kernel Sharp 2021. They are shown upright, rounded
    to 8 bits, with their colour profiles and transparency; EXIF, which may tell a place, doesn't come along.

    Args:
        left, right: files that `read_image` reads; their sizes may differ by any ratio that is the same in both
            directions, within rounding of a pixel of the smaller.
        target: a .html or .htm file.
        labels: two texts; the names of the files by default.
        form: of the pictures within the page: png, webp (lossless) or jpeg (quality 95, over white where transparent);
            by default lossless WebP where that is smaller, else PNG.
        overwrite: replace `target` if it exists.

    Raises:
        ImageFileError: a picture cannot be read, or `form` has no room for its size.
        EngineError: `target` cannot be written or exists, the sizes don't match, or a label is empty.
    """
    left, right, target = Path(left), Path(right), check_target(target, SUFFIXES)
    for source in (left, right):
        if source.is_file() and target.exists() and source.samefile(target):
            raise EngineError(f"{target}: is one of the pictures itself: choose another output.")
    if target.exists() and not overwrite:
        raise EngineError(f"{target}: exists already: use --overwrite or another output.")
    names = _names(left, right) if labels is None else _checked_labels(labels)
    pictures = [read_image(path) for path in (left, right)]
    before = [_size(picture) for picture in pictures]
    small = _smaller((left, right), before)
    note = scores = None
    if small is None:
        scores = _scores(*pictures)
    else:
        pictures[small] = _enlarged(pictures[small], before[1 - small])
        note = _sentence(names[small], before[small], before[1 - small])
    comparison = Comparison(names, before[0 if small is None else 1 - small], note, scores)
    uris = [_uri(picture, form, path) for picture, path in zip(pictures, (left, right), strict=True)]
    page = comparison_page(comparison, before, uris)
    with atomic_write(target) as temporary:
        temporary.write_bytes(page.encode())
    return comparison


def comparison_page(comparison: Comparison, sizes: Sequence[tuple[int, int]], uris: Sequence[str]) -> str:
    """The page as HTML.

    Args:
        comparison: what it says; the labels are escaped here.
        sizes: (width, height) of the left and the right file before anything was enlarged.
        uris: both pictures as data URIs, of one size.
    """
    template = resources.files("sr_engine.infer").joinpath("compare.html").read_text(encoding="utf-8")
    inline = {kind: _hash(content) for kind, content in _INLINE.findall(template)}
    lines = [line for line in (comparison.enlarged, scores_line(comparison)) if line is not None]
    values = {
        "policy": "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {inline['style']}; script-src {inline['script']}",
        "facts": "".join(f"<p>{html.escape(line)}</p>" for line in lines),
        "width": str(comparison.size[0]),
        "height": str(comparison.size[1]),
    }
    for side, label, size, uri in zip(("left", "right"), comparison.labels, sizes, uris, strict=True):
        values |= {side: html.escape(label), f"{side}_size": f"{size[0]}x{size[1]}", f"{side}_uri": uri}
    # In one pass: a label that looks like a placeholder stays as it is.
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def scores_line(comparison: Comparison) -> str | None:
    """The scores in words, None without any."""
    if comparison.scores is None:
        return None
    psnr, ssim = comparison.scores
    if isinf(psnr):
        return "The two have the same luma: PSNR-Y is infinite, SSIM-Y 1."
    return f"Between the two, no border left out: PSNR-Y {psnr:.2f} dB, SSIM-Y {ssim:.4f}."


def _names(left: Path, right: Path) -> tuple[str, str]:
    """The names of the files, with their folders where the names alone are the same."""
    names = (left.name, right.name) if left.name != right.name else (str(left), str(right))
    return _writable(names[0]), _writable(names[1])


def _checked_labels(labels: Sequence[str]) -> tuple[str, str]:
    texts = [_writable(label).strip() for label in labels]
    if len(texts) != 2 or not all(texts):
        raise EngineError("labels: expected two texts that are not empty, the left picture's first.")
    return texts[0], texts[1]


def _writable(text: str) -> str:
    """A text without what HTML has no place for: bytes of names that are no UTF-8, and control characters."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def _size(picture: Image) -> tuple[int, int]:
    height, width = picture.pixels.shape[:2]
    return width, height


def _smaller(paths: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> int | None:
    """Which of the two has to be enlarged, None where the sizes are equal; an error where that would distort it."""
    if sizes[0] == sizes[1]:
        return None
    small = 0 if sizes[0][0] * sizes[0][1] < sizes[1][0] * sizes[1][1] else 1
    (w, h), (W, H) = sizes[small], sizes[1 - small]
    scale = W / w if W >= H else H / h  # of the longer side, which rounding changes least
    if w > W or h > H or max(abs(W / scale - w), abs(H / scale - h)) >= 1:
        a, b = (f"{path} ({width}x{height})" for path, (width, height) in zip(paths, sizes, strict=True))
        raise EngineError(
            f"{a} and {b} differ in shape: expected the same size, or two sizes of one width-to-height ratio."
        )
    return small


def _sentence(label: str, before: tuple[int, int], after: tuple[int, int]) -> str:
    (w, h), (W, H) = before, after
    factor = max(after) / max(before)
    return f"{label} was enlarged {factor:.4g} times, from {w}x{h} to {W}x{H} pixels, by Magic Kernel Sharp 2021."


def _enlarged(picture: Image, size: tuple[int, int]) -> Image:
    """A picture at (width, height), 8 bits, calculated from all bits that it has."""
    colour = _tensor(picture.pixels)
    alpha = None if picture.alpha is None else _tensor(picture.alpha[:, :, None])
    if alpha is not None:
        colour = fill_transparent(colour, alpha)
        alpha = _resampled(alpha, size)[:, :, 0]
    return replace(picture, pixels=_resampled(colour, size), alpha=alpha)


def _tensor(pixels: NDArray) -> torch.Tensor:
    return torch.from_numpy(to_float(pixels)).permute(2, 0, 1)[None].contiguous()


def _resampled(x: torch.Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    out = K.magic_resample(x, size=(size[1], size[0]), kernel="mks2021")
    return from_float(out[0].permute(1, 2, 0).numpy())


def _scores(a: Image, b: Image) -> tuple[float, float] | None:
    if min(_size(a)) < _SMALLEST_SCORED or a.icc != b.icc:  # numbers of two colour spaces have no difference
        return None
    first, second = flattened(a), flattened(b)
    return psnr_y(first, second, shave=0), ssim_y(first, second, shave=0)


def _uri(picture: Image, form: str | None, path: Path) -> str:
    """The picture as a data URI, in `form` or in the smaller of the two lossless ones."""
    side = max(_size(picture))
    if form is not None and side > _LIMITS.get(form, side):
        raise ImageFileError(f"{path}: {side} pixels of a side are too many for {form} ({_LIMITS[form]}): use png.")
    if form is None:
        # WebP has no grey, so a profile of greys would be wrong in it.
        has_webp = side <= _LIMITS["webp"] and (picture.icc is None or picture.pixels.shape[2] == 3)
        encoded = [(kind, _encoded(picture, kind)) for kind in (("webp", "png") if has_webp else ("png",))]
        form, content = min(encoded, key=lambda pair: len(pair[1]))
    else:
        content = _encoded(picture, form)
    return f"data:image/{form};base64,{base64.b64encode(content).decode('ascii')}"


def _encoded(picture: Image, form: str) -> bytes:
    pixels, icc = to_uint8(picture.pixels), picture.icc
    if form == "jpeg":
        pixels = flattened(picture)
    elif form == "webp" and icc is not None and pixels.shape[2] == 1:
        pixels, icc = _grey_to_srgb(pixels, icc), None
    if picture.alpha is not None and form != "jpeg":
        pixels = np.concatenate((pixels, to_uint8(picture.alpha)[:, :, None]), axis=2)
    buffer = io.BytesIO()
    profile = {"icc_profile": icc} if icc else {}
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    Pillow.fromarray(squeezed).save(buffer, form.upper(), **_OPTIONS[form], **profile)
    return buffer.getvalue()


def _grey_to_srgb(pixels: NDArray[np.uint8], icc: bytes) -> NDArray[np.uint8]:
    """(H, W, 1) of a grey profile as (H, W, 3) sRGB; as it is if the profile is broken, which viewers do as well."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        grey = Pillow.fromarray(pixels[:, :, 0])
        converted = ImageCms.profileToProfile(grey, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return pixels
    return pixels if converted is None else np.asarray(converted)


def _hash(content: str) -> str:
    """A source of a Content-Security-Policy that allows this inline style or script and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}'"
