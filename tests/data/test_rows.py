"""Rows into files as they come: what other programs decode, byte for byte, and what happens when it goes wrong."""

import io
import resource
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from sr_engine.data.encoders import jpeg, png, tiff
from sr_engine.data.images import Image, read_image, write_image
from sr_engine.data.rows import Encoding, Header, bytes_needed, check_fits, left_out, memory_needed, row_writer
from sr_engine.errors import ImageFileError
from tests.data.test_metadata import IPTC, XMP, jpeg_with_everything, parsed

RNG = np.random.default_rng(3)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(height: int, width: int, channels: int, dtype: type) -> np.ndarray:
    """Noise, a flat part, and slopes in each direction: each filter is the best of some row."""
    y, x = np.mgrid[:height, :width]
    top = np.iinfo(dtype).max
    out = (np.stack([(x * 3 + y * (k + 1) * 5) % 256 for k in range(channels)], -1) * (top // 255)).astype(dtype)
    out[: height // 4] = RNG.integers(0, top, out[: height // 4].shape, dtype=dtype, endpoint=True)
    out[height // 2 : height * 5 // 8] = 9
    return out


def write(path: Path, samples: np.ndarray, encoding: Encoding, cuts: tuple[int, ...] = (1, 6, 7)) -> Path:
    height, width, channels = samples.shape
    with row_writer(path, Header(width, height, channels, samples.dtype.type), encoding) as take:
        for first, last in pairwise((0, *cuts, height)):
            take(samples[first:last])
    return path


def decoded_by_opencv(path: Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None
    found = found if found.ndim == 3 else found[:, :, None]
    return found if found.shape[2] == 1 else found[:, :, [2, 1, 0, 3][: found.shape[2]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_is_what_pillow_and_opencv_decode(tmp_path, monkeypatch, channels: int, dtype: type) -> None:
    monkeypatch.setattr(png, "_BLOCK", 150)
    monkeypatch.setattr(png, "_CHUNK", 100)
    for height, width in ((37, 23), (9, 1), (8, 2)):
        samples = picture(height, width, channels, dtype)
        path = write(tmp_path / "a.png", samples, Encoding("PNG"))
        image = read_image(path)
        assert image.pixels.dtype == dtype
        planes = [image.pixels, *([] if image.alpha is None else [image.alpha[..., None]])]
        assert np.array_equal(np.concatenate(planes, axis=2), samples)
        if channels != 2:  # OpenCV makes four channels of grey and alpha
            assert np.array_equal(decoded_by_opencv(path), samples)


def test_png_uses_every_filter_where_it_is_best() -> None:
    samples = picture(64, 40, 3, np.uint8).reshape(64, -1)
    samples[60:] = [[3] * 120] * 4
    above = np.concatenate((np.zeros_like(samples[:1]), samples[:-1]))
    kinds = png.filtered(samples, above, 3)[:, 0]
    assert len(set(kinds.tolist())) >= 3
    forced = np.concatenate([png._apply(kind, *_neighbours(samples, above)) for kind in range(5)]).reshape(5, 64, -1)
    assert np.array_equal(png.filtered(samples, above, 3)[:, 1:], forced[kinds, np.arange(64)])


def _neighbours(rows: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, ...]:
    left = np.pad(rows, ((0, 0), (3, 0)))[:, :-3]
    return rows, left, above, np.pad(above, ((0, 0), (3, 0)))[:, :-3]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tiff_is_what_tifffile_pillow_and_opencv_decode(tmp_path, monkeypatch, channels, dtype, big) -> None:
    monkeypatch.setattr(tiff, "_STRIP", 300)
    if big:
        monkeypatch.setattr(tiff, "_needs_64_bits", lambda _: True)
    samples = picture(37, 23, channels, dtype)
    path = write(tmp_path / "a.tif", samples, Encoding("TIFF"))
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == big
        assert len(file.pages.first.dataoffsets) >= 3
        assert all(offset % 2 == 0 for offset in file.pages.first.dataoffsets)
        found = file.asarray()
    assert np.array_equal(found if channels > 1 else found[:, :, None], samples)
    image = read_image(path)
    assert image.pixels.dtype == dtype
    assert np.array_equal(image.pixels, samples[:, :, : channels - 1 + channels % 2])
    if channels % 2 == 0:
        assert image.alpha is not None
        assert np.array_equal(image.alpha, samples[:, :, -1])
    if channels in (1, 3):  # OpenCV multiplies colour with alpha
        assert np.array_equal(decoded_by_opencv(path), samples)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [30, 95, 100])
def test_jpeg_strips_are_the_bytes_of_the_whole_with_restart_markers(tmp_path, monkeypatch, channels, quality) -> None:
    strip = 32
    monkeypatch.setattr(jpeg, "_STRIP", 45 * channels * strip)
    # One strip, exactly one, two, and more than the eight numbers that markers have.
    for height in (20, 32, 33, 64, 301):
        samples = picture(height, 45, channels, np.uint8)
        path = write(tmp_path / "a.jpg", samples, Encoding("JPEG", quality), cuts=(5, 17))
        plain = samples[:, :, 0] if channels == 1 else samples
        buffer = io.BytesIO()
        rows = {} if height <= strip else {"restart_marker_rows": strip // (8 if channels == 1 else 16)}
        Pillow.fromarray(plain).save(buffer, "JPEG", quality=quality, **rows)
        assert path.read_bytes() == buffer.getvalue()
        whole = io.BytesIO()
        Pillow.fromarray(plain).save(whole, "JPEG", quality=quality)
        with Pillow.open(path) as ours, Pillow.open(whole) as theirs:
            assert np.array_equal(np.asarray(ours), np.asarray(theirs))
        (tmp_path / "b.jpg").write_bytes(whole.getvalue())
        assert np.array_equal(decoded_by_opencv(path), decoded_by_opencv(tmp_path / "b.jpg"))


def test_jpeg_of_the_largest_width_keeps_its_restart_interval_within_16_bits(tmp_path: Path) -> None:
    samples = np.zeros((40, 65500, 1), np.uint8)
    samples[20:] = 200
    with Pillow.open(write(tmp_path / "a.jpg", samples, Encoding("JPEG"))) as file:
        assert np.abs(np.asarray(file).astype(int) - samples[:, :, 0]).max() < 9
    assert jpeg.JpegRows(io.BytesIO(), Header(65500, 1, 3), 95)._interval <= 65535


@pytest.mark.parametrize("form", ["WEBP", "BMP", "PPM", "GIF", "AVIF"])
def test_the_other_formats(tmp_path: Path, form: str) -> None:
    grey = picture(33, 20, 1, np.uint8)
    path = write(tmp_path / f"a.{form.lower()}", grey, Encoding(form, 100, lossless=form == "WEBP"))
    found = read_image(path)
    error = np.abs(found.pixels.astype(int) - grey).max()
    assert error <= (3 if form == "AVIF" else 0)
    colour = picture(33, 20, 3, np.uint8)
    found = read_image(write(path, colour, Encoding(form, 100, lossless=form == "WEBP")))
    if form in ("WEBP", "BMP", "PPM"):
        assert np.array_equal(found.pixels, colour)
    with Pillow.open(path) as file:
        assert file.format == form


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_ppm(tmp_path: Path, channels: int) -> None:
    samples = picture(33, 20, channels, np.uint16)
    path = write(tmp_path / "a.ppm", samples, Encoding("PPM"))
    assert np.array_equal(decoded_by_opencv(path), samples)
    assert np.array_equal(read_image(path).pixels, samples)


def test_lossless_webp_keeps_colour_under_transparency(tmp_path: Path) -> None:
    samples = picture(20, 20, 4, np.uint8)
    samples[:9, :, 3] = 0
    image = read_image(write(tmp_path / "a.webp", samples, Encoding("WEBP", lossless=True)))
    assert np.array_equal(image.pixels, samples[:, :, :3])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_descriptions_arrive(tmp_path: Path, suffix: str) -> None:
    image = read_image("given", jpeg_with_everything())
    twice = Image(
        image.pixels.repeat(2, 0).repeat(2, 1), None, image.icc, image.exif, image.xmp, image.iptc, (144.0, 144.0)
    )
    write_image(tmp_path / f"a{suffix}", twice)
    again = read_image(tmp_path / f"a{suffix}")
    assert again.icc == image.icc
    assert again.xmp == image.xmp
    assert again.iptc == (IPTC if suffix in (".png", ".jpg", ".tif") else None)
    assert again.dpi == pytest.approx((144, 144), abs=0.01)
    assert parsed(again)[0x010F] == "maker"
    assert parsed(again).get_ifd(0x8769)[0x9003] == "2026:11:23 12:00:00"
    assert parsed(again).get_ifd(0x8825)[1] == "N"
    with Pillow.open(tmp_path / f"a{suffix}") as file:
        exif = file.getexif()
        assert exif.get(0x0112, 1) == 1
        assert exif.get_ifd(0x8769)[0xA002] == 18
        assert exif.get_ifd(0x8769)[0xA003] == 28
        assert float(exif[0x011A]) == 144
    assert image.xmp != XMP
    lost = left_out(Header(18, 28, 3, np.uint8, image.icc, image.exif, image.xmp, image.iptc), file.format or "")
    assert len(lost) == (1 if suffix in (".webp", ".avif") else 0)


def test_too_long_descriptions_are_left_out_of_jpeg(tmp_path: Path) -> None:
    header = Header(8, 8, 3, np.uint8, xmp=b"x" * 70_000, iptc=b"\x1c" * 66_000)
    with row_writer(tmp_path / "a.jpg", header, Encoding("JPEG")) as take:
        take(np.zeros((8, 8, 3), np.uint8))
    assert read_image(tmp_path / "a.jpg").xmp is None
    assert len(left_out(header, "JPEG")) == 2
    with row_writer(tmp_path / "a.png", header, Encoding("PNG")) as take:
        take(np.zeros((8, 8, 3), np.uint8))
    assert read_image(tmp_path / "a.png").xmp == header.xmp


def test_transparency_and_depth_that_a_format_lacks(tmp_path: Path) -> None:
    samples = picture(32, 32, 4, np.uint16)
    samples[:, :, 3] = 13107  # a fifth
    path = write(tmp_path / "a.bmp", samples, Encoding("BMP"))
    expected = (samples[:, :, :3] / 65535 * 0.2 + 0.8) * 255
    assert np.abs(read_image(path).pixels - expected).max() <= 0.51
    assert len(left_out(Header(32, 32, 4, np.uint16), "BMP")) == 2
    path = write(tmp_path / "b.webp", samples, Encoding("WEBP", lossless=True))
    assert np.array_equal(read_image(path).pixels, np.rint(samples[:, :, :3] / 257).astype(np.uint8))


def test_wrong_rows_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    header = Header(4, 4, 3)
    for rows, said in (
        ((3, 4, 3), "got 3 rows, expected 4"),
        ((5, 4, 3), "got 5 rows, expected 4"),
        ((4, 5, 3), r"got rows of shape \(4, 5, 3\)"),
    ):
        with (
            pytest.raises(ImageFileError, match=rf"a\.png: {said}"),
            row_writer(path, header, Encoding("PNG")) as take,
        ):
            take(np.zeros(rows, np.uint8))
    with pytest.raises(OSError, match="of the caller"), row_writer(path, header, Encoding("PNG")):
        raise OSError("of the caller")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "PPM", "WEBP", "BMP", "AVIF", "GIF"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, form: str) -> None:
    noise = RNG.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))  # as a disk with 4096 bytes left
    try:
        with pytest.raises(ImageFileError, match=r"a\.x: cannot be written: File too large\.$"):
            write(tmp_path / "a.x", noise, Encoding(form))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(tmp_path.iterdir()) == []


def test_limits_of_formats() -> None:
    for form, side in (("WEBP", 16383), ("JPEG", 65500), ("GIF", 65535), ("AVIF", 65536), ("PNG", 2**31 - 1)):
        check_fits("a", form, side, 1)
        with pytest.raises(ImageFileError, match=r"^a\.x: the picture is 1 x \d+, but .* holds at most \d+ pixels a"):
            check_fits("a.x", form, 1, side + 1)
    check_fits("a", "BMP", 30000, 40000)
    with pytest.raises(ImageFileError, match=r"BMP holds at most 4 GiB: use \.png or \.tif"):
        check_fits("a.bmp", "BMP", 40000, 40000)
    for encoding in (Encoding("JPEG", lossless=True), Encoding("WEBP", 0), Encoding("WEBP", 101)):
        with pytest.raises(ImageFileError), row_writer("a.x", Header(1, 1, 3), encoding):
            pass


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "PPM", "WEBP", "BMP", "GIF", "AVIF"])
def test_the_estimate_of_disk_space_is_never_too_small(tmp_path: Path, form: str, dtype: type) -> None:
    for size in (1, 200):
        noise = RNG.integers(0, np.iinfo(dtype).max, (size, size, 4), dtype=dtype)
        encoding = Encoding(form, 100, lossless=form == "WEBP")
        taken = write(tmp_path / "a.x", noise, encoding, cuts=()).stat().st_size
        assert taken <= bytes_needed(Header(size, size, 4, dtype), encoding)


def test_streamed_formats_need_some_rows_only() -> None:
    big = Header(32000, 24000, 3)
    for form in ("PNG", "TIFF", "JPEG", "PPM"):
        assert memory_needed(big, Encoding(form)) < 64 << 20
    assert memory_needed(big, Encoding("BMP")) > 32000 * 24000 * 3
