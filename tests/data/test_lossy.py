"""Loss is told from what a file holds, whatever it is called."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from sr_engine.data.lossy import lossy_format

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
RGB = Image.fromarray(PIXELS[..., :3])
RGBA = Image.fromarray(PIXELS)
OTHER = Image.fromarray(PIXELS[::-1, :, :3].copy())
PROFILE = b"a profile of an odd length"[1:]
ICC: dict[str, Any] = {"icc_profile": PROFILE}
EXIF = Image.Exif()
EXIF[0x010F] = "Camera"


@pytest.mark.parametrize(
    ("picture", "form", "options", "expected"),
    [
        (RGB, "JPEG", {}, "JPEG"),
        (RGB.convert("L"), "JPEG", {"progressive": True}, "JPEG"),
        (RGB.convert("CMYK"), "JPEG", {}, "JPEG"),
        (RGB, "MPO", {"save_all": True, "append_images": [OTHER]}, "JPEG"),
        (RGB, "WEBP", {"quality": 80}, "lossy WebP"),
        (RGB, "WEBP", {"quality": 80, **ICC, "exif": EXIF}, "lossy WebP"),
        (RGBA, "WEBP", {"quality": 80}, "lossy WebP"),
        (RGB, "WEBP", {"quality": 80, "save_all": True, "append_images": [OTHER]}, "lossy WebP"),
        (RGB, "WEBP", {"lossless": True}, None),
        (RGBA, "WEBP", {"lossless": True, **ICC, "exif": EXIF}, None),
        (RGB, "WEBP", {"lossless": True, "save_all": True, "append_images": [OTHER]}, None),
        (RGB, "TIFF", {"compression": "jpeg"}, "TIFF with JPEG inside"),
        (RGB, "TIFF", {"compression": "raw"}, None),
        (RGB, "TIFF", {"compression": "tiff_lzw"}, None),
        (RGB, "TIFF", {"compression": "tiff_adobe_deflate", "big_tiff": True}, None),
        (RGB, "PNG", {}, None),
        (RGB, "BMP", {}, None),
        (RGB, "PPM", {}, None),
        (RGB, "GIF", {}, None),
    ],
)
def test_what_pillow_writes(
    tmp_path: Path, picture: Image.Image, form: str, options: dict, expected: str | None
) -> None:
    path = tmp_path / "picture.png"
    picture.save(path, form, **options)
    assert lossy_format(path) == expected


def test_the_extended_container_is_meant_to_be_tested(tmp_path: Path) -> None:
    """The cases above with a profile are extended ones, and their chunk has an odd length."""
    RGB.save(tmp_path / "a.webp", lossless=True, **ICC)
    content = (tmp_path / "a.webp").read_bytes()
    assert content[12:16] == b"VP8X"
    assert len(PROFILE) % 2 == 1


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif(tmp_path: Path) -> None:
    RGB.save(tmp_path / "a.jpg", "AVIF")
    assert lossy_format(tmp_path / "a.jpg") == "AVIF"


@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        (b"heic\0\0\0\0mif1heic", "HEIC"),
        (b"mif1\0\0\0\0miafheic", "HEIC"),
        (b"mif1\0\0\0\0miafavif", "AVIF"),
        (b"isom\0\0\0\0mp42avc1", None),
        (b"isomheicmp42avc1", None),  # a version number, not a brand
    ],
)
def test_brands_of_iso_media_files(tmp_path: Path, brands: bytes, expected: str | None) -> None:
    box = b"ftyp" + brands
    (tmp_path / "a.heic").write_bytes(struct.pack(">I", 4 + len(box)) + box + b"avif" * 9)
    assert lossy_format(tmp_path / "a.heic") == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0WEBP",
        b"RIFF\0\0\0\0WEBPVP8X\xff\xff\xff\xff",
        b"II*\0",
        b"II*\0\x08\0\0\0\xff\xff",
        b"\0\0\0\x04ftyp",
        b"no picture at all, only a few words",
    ],
)
def test_what_is_no_picture_is_not_lossy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    assert lossy_format(tmp_path / "bad.jpg") is None
    assert lossy_format(tmp_path / "gone.jpg") is None
    assert lossy_format(tmp_path) is None
