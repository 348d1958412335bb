# ruff: noqa: PT017 (an error is one of two right outcomes)
"""Damaged pictures: a picture or an ImageFileError comes back, and no header makes the reader take much memory."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from PIL import Image as Pillow
from PIL import ImageCms

from sr_engine.data.images import Image, image_size, read_image, write_image
from sr_engine.errors import ImageFileError
from tests.fuzz.mutations import damaged, examples

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RGB = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (7, 5, 3), np.uint16)


def _saved(form: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(RGB).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def _exif() -> bytes:
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010E], exif[0x9286] = 6, "a picture", "words"
    exif.get_ifd(0x8769)[0x9003] = "2026:11:23 12:00:00"
    return exif.tobytes()


def _deep(form: str, folder: Path) -> bytes:
    write_image(folder / f"deep.{form}", Image(DEEP, DEEP[:, :, 0], ICC, _exif()))
    return (folder / f"deep.{form}").read_bytes()


def _samples() -> dict[str, list[bytes]]:
    both: dict[str, Any] = {"icc_profile": ICC, "exif": _exif()}
    frames = [Pillow.fromarray(RGB), Pillow.fromarray(RGB[::-1].copy())]
    return {
        ".png": [
            *(_saved("PNG", mode, **both) for mode in ("RGB", "RGBA", "LA", "L", "1")),
            _saved("PNG", "P", transparency=3, **both),
            _saved("PNG", "L", transparency=7),
        ],
        ".jpg": [_saved("JPEG", **both), _saved("JPEG", "L"), _saved("JPEG", "CMYK"), _saved("JPEG", progressive=True)],
        ".webp": [_saved("WEBP", **both), _saved("WEBP", "RGBA", lossless=True), _saved("WEBP", save_all=True)],
        ".tif": [
            *(_saved("TIFF", mode, compression=kind) for mode, kind in (("RGB", "tiff_lzw"), ("L", "tiff_deflate"))),
            *(_saved("TIFF", mode, icc_profile=ICC) for mode in ("RGB", "RGBA", "CMYK", "LAB", "P", "1")),
            _saved("TIFF", "1", compression="group4"),
            _saved("TIFF", "RGB", compression="jpeg"),
            _saved("TIFF", "RGB", compression="packbits"),
        ],
        ".bmp": [_saved("BMP"), _saved("BMP", "P"), _saved("BMP", "1"), _saved("BMP", "RGBA")],
        ".gif": [_saved("GIF", "P", save_all=True, append_images=frames, transparency=1), _saved("GIF", "L")],
        ".ppm": [_saved("PPM"), _saved("PPM", "L"), b"P2 2 2 9 1 2 3 4", b"P3\n# x\n1 1 255 1 2 3", _saved("PPM", "1")],
        ".avif": [_saved("AVIF", **both), _saved("AVIF", "RGBA")],
    }


SAMPLES = _samples()


def outcome(path: Path) -> bool:
    """Read a picture and its size; whether there is one. A whole picture can be written again."""
    try:
        size = image_size(path)
        assert min(size) >= 1
    except ImageFileError as error:
        assert str(error).startswith(f"{path}: ")
    try:
        image = read_image(path)
    except ImageFileError as error:
        assert str(error).startswith(f"{path}: ")
        return False
    height, width, channels = image.pixels.shape
    assert height >= 1
    assert width >= 1
    assert channels in (1, 3)
    assert image.pixels.dtype in (np.uint8, np.uint16)
    assert image.alpha is None or (image.alpha.shape, image.alpha.dtype) == ((height, width), image.pixels.dtype)
    if height * width < 10_000:
        write_image(path.with_name("again.png"), image)
        assert np.array_equal(read_image(path.with_name("again.png")).pixels, image.pixels)
    return True


@pytest.mark.parametrize("suffix", SAMPLES)
def test_the_samples_are_pictures(suffix: str, tmp_path: Path) -> None:
    for number, content in enumerate(SAMPLES[suffix]):
        (tmp_path / f"{number}{suffix}").write_bytes(content)
        assert outcome(tmp_path / f"{number}{suffix}"), number


@pytest.mark.parametrize("suffix", SAMPLES)
@pytest.mark.parametrize("strict", [False, True])
def test_damaged_pictures(suffix: str, strict: bool, tmp_path: Path) -> None:
    @examples(100)
    @given(damaged(SAMPLES[suffix], head=300))
    def check(content: bytes) -> None:
        (tmp_path / f"a{suffix}").write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error" if strict else "ignore")
            outcome(tmp_path / f"a{suffix}")

    check()


def test_damaged_deep_pictures(tmp_path: Path) -> None:
    tiff = io.BytesIO()
    Pillow.fromarray(DEEP[:, :, 0]).save(tiff, "TIFF")
    whole = [_deep("png", tmp_path), tiff.getvalue()]

    @examples(150)
    @given(damaged(whole, head=300).map(repaired))
    def check(content: bytes) -> None:
        (tmp_path / "a.png").write_bytes(content)
        outcome(tmp_path / "a.png")

    check()


@examples(200)
@given(content=damaged(SAMPLES[".png"]).map(lambda content: repaired(content)))
def test_damaged_chunks_with_right_sums(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "sum.png"
    path.write_bytes(content)
    outcome(path)


def repaired(content: bytes) -> bytes:
    """A PNG file whose check sums are right again, so that the damage gets further into the reader."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        body = content[at + 4 : at + 8 + length]
        parts.append(struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts) + content[at:]


def _claims(side: int) -> dict[str, bytes]:
    """Files of a few bytes whose headers say that they are `side` x `side`."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    jpeg, gif = _saved("JPEG"), _saved("GIF", "L")
    sof = jpeg.index(b"\xff\xc0") + 5
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: side, 279: 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return {
        ".png": repaired(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + head + b"\0" * 8 + b"IEND" + b"\0" * 4),
        ".bmp": _saved("BMP")[:18] + struct.pack("<ii", side, side) + _saved("BMP")[26:],
        ".jpg": jpeg[:sof] + struct.pack(">HH", side, side) + jpeg[sof + 4 :],
        ".gif": gif[:6] + struct.pack("<HH", side, side) + gif[10:],
        ".ppm": b"P6 %d %d 255 x" % (side, side),
        ".tif": b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 4,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", _claims(1))
def test_a_header_cannot_ask_for_much_memory(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_claims(60_000)[suffix])
    for read in (read_image, image_size):
        with pytest.raises(ImageFileError, match=r"has more than 178,956,970 pixels; cut it into parts first\.$"):
            read(path)
