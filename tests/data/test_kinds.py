"""What files are whatever they are called: HEIC with its package, raw and other kinds refused with what to do."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from sr_engine.data.images import READABLE, SUFFIXES, image_size, read_image, write_image
from sr_engine.data.lossy import lossy_format
from sr_engine.data.sources import list_pictures
from sr_engine.errors import DataError, ImageFileError
from tests.data.test_metadata import XMP, exif, parsed

RGB = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def tiff(**tags: Any) -> bytes:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    info = ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[int(tag[1:])] = value
    buffer = io.BytesIO()
    Pillow.fromarray(RGB).save(buffer, "TIFF", tiffinfo=info)
    return buffer.getvalue()


def box(brand: bytes, *others: bytes) -> bytes:
    brands = brand + b"\0\0\0\0" + b"".join(others)
    return (8 + len(brands)).to_bytes(4) + b"ftyp" + brands + bytes(64)


REFUSED = {
    "a.cr2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(50), "camera raw"),
    "a.CR3": (box(b"crx "), "camera raw"),
    "b.jpg": (box(b"crx "), "camera raw"),
    "a.raf": (b"FUJIFILMCCD-RAW 0201" + bytes(50), "camera raw"),
    "a.orf": (b"IIRO\x08\0\0\0" + bytes(50), "camera raw"),
    "a.rw2": (b"IIU\0\x08\0\0\0" + bytes(50), "camera raw"),
    "a.nef": (tiff(), "camera raw"),
    "a.tif": (tiff(t50706=b"\1\4\0\0"), "camera raw"),
    "b.tif": (tiff(t254=1, t330=8, t271="NIKON"), "camera raw"),
    "a.psd": (b"8BPS\0\1" + bytes(50), "Photoshop"),
    "a.exr": (b"v/1\x01" + bytes(50), "OpenEXR"),
    "a.jxl": (b"\xff\x0a" + bytes(50), "JPEG XL"),
    "b.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL"),
    "a.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "JPEG 2000"),
    "a.svg": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg width="4"/>', "SVG"),
    "b.svg": (b"<svg></svg>", "SVG"),
    "a.pdf": (b"%PDF-1.7" + bytes(50), "PDF"),
    "a.mp4": (box(b"isom", b"avc1"), "video"),
    "a.mov": (box(b"qt  "), "video"),
    "a.mkv": (b"\x1aE\xdf\xa3" + bytes(50), "video"),
    "a.avi": (b"RIFF\0\0\0\0AVI LIST" + bytes(50), "video"),
    "c.jpg": (b"\n<!DOCTYPE html><html>", "web page"),
    "a.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
    "d.jpg": (b"PK\x03\x04" + bytes(50), "ZIP"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_kinds_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    content, kind = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(ImageFileError, match=kind) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: is a")
        assert message.endswith(".")
        assert "first" in message or "render" in message or "download" in message
        with pytest.raises(ImageFileError, match=kind):
            read(path.with_name("given"), content) if name != "a.nef" else read(path, content)


def test_a_picture_with_another_suffix_is_read_by_its_content(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", RGB)
    for suffix, note in ((".jpg", "although its name ends in .jpg"), (".nef", None), (".png", None), ("", None)):
        path = (tmp_path / "a.png").rename(tmp_path / f"a{suffix}")
        image = read_image(path)
        assert np.array_equal(image.pixels, RGB)
        assert image_size(path) == (16, 24)
        assert len(image.notes) == (note is not None)
        assert note is None or note in image.notes[0]
        path.rename(tmp_path / "a.png")


def test_content_given_needs_no_file() -> None:
    buffer = io.BytesIO()
    Pillow.fromarray(RGB).save(buffer, "PNG")
    assert np.array_equal(read_image("-", buffer.getvalue()).pixels, RGB)
    assert image_size("-", buffer.getvalue()) == (16, 24)
    assert lossy_format("-", buffer.getvalue()) is None
    Pillow.fromarray(RGB).save(buffer := io.BytesIO(), "JPEG")
    assert lossy_format("-", buffer.getvalue()) == "JPEG"
    Pillow.fromarray(RGB).save(buffer := io.BytesIO(), "TIFF", compression="jpeg")
    assert lossy_format("-", buffer.getvalue()) == "TIFF with JPEG inside"
    with pytest.raises(ImageFileError, match=r"^standard input: is not a picture"):
        read_image("standard input", b"")


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    slope = np.stack(np.broadcast_arrays(np.arange(0, 240, 10)[None, :], np.arange(0, 160, 10)[:, None], 90), -1)
    picture = heif.from_pillow(Pillow.fromarray(slope.astype(np.uint8)))
    picture.save(
        tmp_path / "a.heic", quality=95, exif=exif(1).tobytes(), xmp=XMP.replace(b'"6"', b'"1"').replace(b">6<", b">1<")
    )
    image = read_image(tmp_path / "a.heic")
    assert image.pixels.shape == (16, 24, 3)
    assert np.abs(image.pixels.astype(int) - slope).mean() < 4
    assert parsed(image)[0x010F] == "maker"
    assert image.xmp is not None
    assert b"a title" in image.xmp
    assert image_size(tmp_path / "a.heic") == (16, 24)
    assert lossy_format(tmp_path / "a.heic") == "HEIC"
    content = (tmp_path / "a.heic").read_bytes()
    with pytest.raises(ImageFileError, match=r"damaged or truncated|not a picture"):
        read_image("cut", content[: len(content) // 2])


def test_heic_turned_is_turned_once(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    slope = np.stack(np.broadcast_arrays(np.arange(0, 240, 10)[None, :], np.arange(0, 160, 10)[:, None], 90), -1)
    picture = heif.from_pillow(Pillow.fromarray(slope.astype(np.uint8)))
    picture.save(tmp_path / "a.heic", quality=95, exif=exif(6).tobytes())
    image = read_image(tmp_path / "a.heic")
    assert image_size(tmp_path / "a.heic") == image.pixels.shape[:2] == (24, 16)
    assert np.abs(image.pixels.astype(int) - np.rot90(slope, -1)).mean() < 4


def test_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageFileError, match=r"^a\.heic: is a HEIC picture: pip install 'sr-engine\[heif\]' to read"):
        read_image("a.heic", box(b"heic", b"mif1", b"heic"))


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "ü b.png", RGB)
    (tmp_path / "in" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "in" / "loop.png").symlink_to(tmp_path / "in" / "loop.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert list_pictures(tmp_path) == [tmp_path / "in" / "ü b.png"]
    with pytest.raises(ImageFileError, match=r"loop\.png: cannot be opened: Too many levels of symbolic links\.$"):
        read_image(tmp_path / "in" / "loop.png")


def test_training_lists_no_more_than_before(tmp_path: Path) -> None:
    for suffix in (".gif", ".heic"):
        (tmp_path / f"a{suffix}").write_bytes(b"")
    with pytest.raises(DataError, match="has no pictures"):
        list_pictures(tmp_path)
    assert len(list_pictures(tmp_path, READABLE)) == 2
    assert SUFFIXES < READABLE
