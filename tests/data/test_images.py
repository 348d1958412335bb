"""Reading and writing pictures: every kind of sample, upright once, and one sentence for every bad file."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from sr_engine.data.images import Image, from_float, image_size, read_image, to_float, to_uint8, write_image
from sr_engine.errors import ImageFileError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (13, 17, 4), dtype=np.uint16)


def test_rgb_and_grey_survive_lossless_formats(tmp_path: Path) -> None:
    for suffix in (".png", ".bmp", ".tif"):
        for pixels in (RGB, RGB[:, :, :1]):
            write_image(tmp_path / f"a{suffix}", pixels)
            assert np.array_equal(read_image(tmp_path / f"a{suffix}").pixels, pixels)
    write_image(tmp_path / "a.jpg", np.full((8, 8, 3), 77, np.uint8))
    assert np.array_equal(read_image(tmp_path / "a.jpg").pixels, np.full((8, 8, 3), 77))


def test_alpha_is_kept_and_composed_over_white_for_jpeg(tmp_path: Path) -> None:
    image = Image(np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 51, np.uint8))
    write_image(tmp_path / "a.png", image)
    alpha = read_image(tmp_path / "a.png").alpha
    assert alpha is not None
    assert (alpha == 51).all()
    write_image(tmp_path / "a.jpg", image)
    flat = read_image(tmp_path / "a.jpg")
    assert flat.alpha is None
    assert np.abs(flat.pixels.astype(int) - 204).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_against_an_own_encoder(tmp_path: Path, channels: int) -> None:
    samples = DEEP[:, :, :channels]
    path = tmp_path / "deep.png"
    path.write_bytes(_png16(samples))
    image = read_image(path)
    colours = samples if channels in (1, 3) else samples[:, :, :-1]
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, colours)
    if channels in (2, 4):
        assert image.alpha is not None
        assert np.array_equal(image.alpha, samples[:, :, -1])
    write_image(tmp_path / "again.png", image)
    again = read_image(tmp_path / "again.png")
    assert np.array_equal(again.pixels, colours)


def test_16_bit_tiff(tmp_path: Path) -> None:
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        kinds: list[dict[str, Any]] = [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}]
        for options in kinds:
            tifffile.imwrite(tmp_path / "a.tif", DEEP[:, :, :3], photometric="rgb", byteorder=order, **options)
            assert np.array_equal(read_image(tmp_path / "a.tif").pixels, DEEP[:, :, :3])
    planes = np.ascontiguousarray(DEEP[:, :, :3].transpose(2, 0, 1))
    for compression in (None, "zlib"):
        tifffile.imwrite(
            tmp_path / "b.tif", planes, photometric="rgb", planarconfig="separate", compression=compression
        )
        assert np.array_equal(read_image(tmp_path / "b.tif").pixels, DEEP[:, :, :3])


def test_16_bit_is_rounded_where_the_format_has_8(tmp_path: Path) -> None:
    write_image(tmp_path / "a.bmp", DEEP[:, :, :3])
    expected = np.rint(DEEP[:, :, :3] / 65535 * 255).astype(np.uint8)
    assert np.array_equal(read_image(tmp_path / "a.bmp").pixels, expected)


def test_palette_one_bit_and_transparent_palette(tmp_path: Path) -> None:
    palette = Pillow.fromarray(RGB).quantize(7)
    palette.save(tmp_path / "p.png")
    assert np.array_equal(read_image(tmp_path / "p.png").pixels, np.asarray(palette.convert("RGB")))
    palette.save(tmp_path / "t.png", transparency=0)
    alpha = read_image(tmp_path / "t.png").alpha
    assert alpha is not None
    assert np.array_equal(alpha == 0, np.asarray(palette) == 0)
    Pillow.fromarray(RGB[:, :, 0] > 99).save(tmp_path / "one.png")
    assert np.array_equal(read_image(tmp_path / "one.png").pixels[:, :, 0], (RGB[:, :, 0] > 99) * 255)


def test_cmyk_becomes_rgb_without_its_profile(tmp_path: Path) -> None:
    Pillow.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.tif", icc_profile=b"broken")
    image = read_image(tmp_path / "red.tif")
    assert image.pixels[4, 4].tolist() == [255, 0, 0]
    assert image.icc is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    pixels = RGB.repeat(8, 0).repeat(8, 1)
    # What a viewer shows must be `pixels`: the file holds the inverse of the orientation.
    undo = {1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1]}
    undo |= {5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x), 8: lambda x: np.rot90(x, -1)}
    undo[7] = lambda x: x[::-1, ::-1].swapaxes(0, 1)
    stored = np.ascontiguousarray(undo[orientation](pixels))
    for name in ("a.png", "a.webp", "a.tif"):
        Pillow.fromarray(stored).save(tmp_path / name, exif=exif, lossless=True)
        image = read_image(tmp_path / name)
        assert np.array_equal(image.pixels, pixels)
        assert image_size(tmp_path / name) == pixels.shape[:2]
        write_image(tmp_path / "again.png", image)
        assert np.array_equal(read_image(tmp_path / "again.png").pixels, pixels)
        with Pillow.open(tmp_path / "again.png") as again:
            assert again.getexif().get(0x0112, 1) == 1
            assert again.getexif()[0x010F] == "maker"


def test_profile_is_kept(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, pixels in (("a.png", RGB), ("b.png", DEEP[:, :, :3]), ("a.jpg", RGB), ("a.webp", RGB)):
        write_image(tmp_path / name, Image(pixels, icc=profile))
        assert read_image(tmp_path / name).icc == profile


def test_one_pixel(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        write_image(tmp_path / f"a{suffix}", np.zeros((1, 1, 3), np.uint8))
        assert read_image(tmp_path / f"a{suffix}").pixels.shape == (1, 1, 3)


def test_bad_files_are_named_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        write_image(tmp_path / f"whole{suffix}", np.asarray(RGB.repeat(9, 0).repeat(9, 1)))
        content = (tmp_path / f"whole{suffix}").read_bytes()
        (tmp_path / f"cut{suffix}").write_bytes(content[: len(content) // 2])
    Pillow.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    names = ["text.png", "empty.png", "missing.png", ".", "float.tif", "long" * 100]
    for name in [*names, *(f"cut{suffix}" for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"))]:
        with pytest.raises(ImageFileError) as caught:
            read_image(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: ")
        assert message.endswith(".")
        assert "\n" not in message
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ImageFileError, match=r"whole\.png: has more than 100 pixels"):
        read_image(tmp_path / "whole.png")


@pytest.mark.filterwarnings("error")
def test_large_pictures_are_not_called_damaged_where_warnings_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", np.zeros((6, 10, 3), np.uint8))
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ImageFileError, match=r"a\.png: has more than 50 pixels, which Pillow warns of"):
        read_image(tmp_path / "a.png")


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_image(path, RGB)
    old = path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ImageFileError, match=r"a\.png: cannot be written: No space left on device\."):
        write_image(path, RGB[::-1])
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(ImageFileError, match=r"cannot write '\.xyz' files"):
        write_image(tmp_path / "a.xyz", RGB)


def test_floats_round_and_clip() -> None:
    for dtype, pixels in ((np.uint8, np.arange(256)), (np.uint16, np.arange(65536))):
        samples = pixels.astype(dtype).reshape(16, -1, 1)
        assert np.array_equal(from_float(to_float(samples), dtype), samples)
    assert from_float(np.array([-1.0, 0.5, 2.0])).tolist() == [0, 128, 255]
    exact = np.floor(np.arange(65536) / 65535 * 255 + 0.5)
    assert np.array_equal(to_uint8(np.arange(65536, dtype=np.uint16)), exact)


def _png16(samples: np.ndarray) -> bytes:
    """A PNG whose rows use the filters none, sub, up, average and Paeth in turn, written byte by byte."""
    height, width, channels = samples.shape
    step = 2 * channels
    above, body = bytes(width * step), b""
    for y in range(height):
        row = samples[y].astype(">u2").tobytes()
        kind = y % 5
        coded = bytearray([kind])
        for x, value in enumerate(row):
            a = row[x - step] if x >= step else 0
            b, c = above[x], above[x - step] if x >= step else 0
            nearest = min((a, b, c), key=lambda v, p=a + b - c: abs(p - v))
            coded.append((value - (0, a, b, (a + b) // 2, nearest)[kind]) % 256)
        body, above = body + bytes(coded), row
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
