"""Animations: frames as displayed, their times and repeats, in and out of every format that holds them."""

import io
import resource
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from sr_engine.data.animation import AnimationInfo, Frame, animation_info, frame_count, read_frames, write_animation
from sr_engine.data.images import Image, read_image, write_image
from sr_engine.errors import ImageFileError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SUFFIXES = {"GIF": ".gif", "WEBP": ".webp", "PNG": ".png"}


def drawn(number: int, *, transparent: bool = False) -> Image:
    """A square that moves over four colours."""
    pixels = np.zeros((21, 33, 3), np.uint8)
    pixels[:, 16:] = 200, 10, 10
    pixels[3 + number : 9 + number, 5 * number : 5 * number + 7] = 10, 200, 90
    alpha = None
    if transparent:
        alpha = np.full((21, 33), 255, np.uint8)
        alpha[10 - number :, 20:] = 0
        pixels[alpha == 0] = 0
    return Image(pixels, alpha)


def frames(count: int = 4, **options: Any) -> Iterator[Frame]:
    for number in range(count):
        yield Frame(drawn(number, **options), 40.0 + 30 * number)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("form", SUFFIXES)
def test_frames_survive_and_pillow_shows_the_same(tmp_path: Path, form: str, transparent: bool) -> None:
    path = tmp_path / f"a{SUFFIXES[form]}"
    write_animation(path, frames(transparent=transparent), form, loop=3, lossless=True)
    assert animation_info(path) == AnimationInfo(4, 3)
    assert frame_count(path, path.read_bytes()) == 4
    found = list(read_frames(path))
    assert [frame.duration_ms for frame in found] == pytest.approx([40, 70, 100, 130])
    for frame, wanted in zip(found, frames(transparent=transparent), strict=True):
        assert np.array_equal(frame.image.pixels, wanted.image.pixels)
        assert (frame.image.alpha is None) == (wanted.image.alpha is None)
        assert frame.image.alpha is None or np.array_equal(frame.image.alpha, wanted.image.alpha)  # pyright: ignore
    with Pillow.open(path) as file:
        assert (file.format, getattr(file, "n_frames", 1)) == (form, 4)
    assert read_image(path).notes == ("the first of 4 frames was taken.",)
    assert np.array_equal(read_image(path).pixels, drawn(0, transparent=transparent).pixels)


@pytest.mark.parametrize("form", SUFFIXES)
@pytest.mark.parametrize("loop", [0, 1, 2])
def test_repeats_and_frames_that_are_the_same(tmp_path: Path, form: str, loop: int) -> None:
    path = tmp_path / "a"
    moving = [Frame(drawn(0), 50), Frame(drawn(1), 60), Frame(drawn(2), 70)]
    write_animation(path, iter(moving), form, loop=loop)
    assert animation_info(path).loop == loop
    still = [Frame(drawn(0), 50), Frame(drawn(0), 60), Frame(drawn(1), 70)]
    write_animation(path, iter(still), form, loop=loop)
    assert sum(frame.duration_ms for frame in read_frames(path)) == pytest.approx(180)
    write_animation(path, iter(still[:1]), form, loop=loop)
    assert np.abs(next(read_frames(path)).image.pixels.astype(int) - drawn(0).pixels).mean() < 5


def test_frames_are_composed_as_gif_and_apng_say(tmp_path: Path) -> None:
    # Pillow's own writer stores differences and disposes of frames; what is displayed is known here.
    pictures = [Pillow.fromarray(drawn(number).pixels) for number in range(4)]
    for suffix, disposals in ((".gif", (0, 1, 2)), (".png", (0, 1))):
        for disposal in disposals:
            path = tmp_path / f"a{suffix}"
            pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=80, disposal=disposal)
            for number, frame in enumerate(read_frames(path)):
                assert np.array_equal(frame.image.pixels, drawn(number).pixels), (suffix, disposal, number)
                assert frame.duration_ms == 80


def test_the_picture_before_an_apng_is_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pictures = [Pillow.fromarray(drawn(number).pixels) for number in range(3)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], default_image=True, duration=50, loop=2)
    assert animation_info(path) == AnimationInfo(2, 2)
    assert [np.array_equal(f.image.pixels, drawn(k + 1).pixels) for k, f in enumerate(read_frames(path))] == [True] * 2


@pytest.mark.parametrize("form", ["WEBP", "PNG"])
def test_descriptions_of_the_first_frame_are_kept(tmp_path: Path, form: str) -> None:
    exif = Pillow.Exif()
    exif[0x010F] = "maker"
    image = Image(drawn(0).pixels, None, SRGB, exif.tobytes(), b"<x:xmpmeta/>")
    write_animation(tmp_path / "a", iter([Frame(image, 50), Frame(drawn(1), 50)]), form)
    first, second = (frame.image for frame in read_frames(tmp_path / "a"))
    assert first.icc == SRGB
    assert first.xmp == b"<x:xmpmeta/>"
    assert first.exif is not None
    assert b"maker" in first.exif
    assert second.icc is None


def test_lossy_webp_is_near(tmp_path: Path) -> None:
    write_animation(tmp_path / "a.webp", frames(transparent=True), "WEBP", quality=90)
    for frame, wanted in zip(read_frames(tmp_path / "a.webp"), frames(transparent=True), strict=True):
        assert np.abs(frame.image.pixels.astype(int) - wanted.image.pixels)[:8].mean() < 12
        assert np.array_equal(frame.image.alpha, wanted.image.alpha)  # pyright: ignore


def test_half_transparent_gif_has_one_bit_of_it(tmp_path: Path) -> None:
    image = Image(drawn(0).pixels, np.full((21, 33), 100, np.uint8))
    image.alpha[:, :9] = 200  # pyright: ignore
    write_animation(tmp_path / "a.gif", iter([Frame(image, 50), Frame(image, 50)]), "GIF")
    alpha = next(read_frames(tmp_path / "a.gif")).image.alpha
    assert alpha is not None
    assert np.array_equal(alpha, np.where(np.arange(33) < 9, 255, 0)[None, :].repeat(21, 0))


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    for form in ("JPEG", "TIFF", "AVIF"):
        with pytest.raises(ImageFileError, match=rf"a\.jpg: {form} cannot hold an animation: write \.gif, \.webp or"):
            write_animation(path, frames(), form)
    with pytest.raises(ImageFileError, match=r"a\.jpg: there are no frames"):
        write_animation(path, iter(()), "PNG")
    for form in SUFFIXES:
        with pytest.raises(ImageFileError, match=r"a\.jpg: a frame is 4 x 5, the first was 33 x 21\.$"):
            write_animation(path, iter([*frames(2), Frame(Image(np.zeros((5, 4, 3), np.uint8)), 1)]), form)

        def broken() -> Iterator[Frame]:
            yield from frames(2)
            raise ValueError("of the caller")

        with pytest.raises(ValueError, match=r"^of the caller$"):
            write_animation(path, broken(), form)
    with pytest.raises(ImageFileError, match="16383"):
        write_animation(path, iter([Frame(Image(np.zeros((1, 16384, 3), np.uint8)), 1)]), "WEBP")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", SUFFIXES)
def test_a_full_disk_is_one_sentence(tmp_path: Path, form: str) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, old[1]))
    try:
        with pytest.raises(ImageFileError, match=r"a: cannot be written: File too large\.$"):
            write_animation(tmp_path / "a", (Frame(Image(one), 50) for one in noise), form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(tmp_path.iterdir()) == []


def test_pages_are_no_frames(tmp_path: Path) -> None:
    pages = [Pillow.fromarray(drawn(number).pixels) for number in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert frame_count(tmp_path / "a.tif") == 1
    image = read_image(tmp_path / "a.tif")
    assert np.array_equal(image.pixels, drawn(0).pixels)
    assert image.notes == ("the first of 3 pages was taken.",)
    # A chain of pages that bites its own tail.
    content = bytearray((tmp_path / "a.tif").read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    end = first + 2 + 12 * struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, end, first)
    assert read_image("loop.tif", bytes(content)).notes == ()


def test_single_pictures_are_one_frame(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".webp", ".gif", ".tif", ".bmp", ".avif"):
        write_image(tmp_path / f"a{suffix}", drawn(0))
        assert frame_count(tmp_path / f"a{suffix}") == 1
        assert len(list(read_frames(tmp_path / f"a{suffix}"))) == 1


def test_claims_of_frames_are_not_believed(tmp_path: Path) -> None:
    write_animation(tmp_path / "a.png", frames(), "PNG")
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"acTL")
    claim = b"acTL\x7f\xff\xff\xff\0\0\0\0"
    assert frame_count("many", content[:at] + claim + struct.pack(">I", zlib.crc32(claim)) + content[at + 16 :]) == 4
    write_animation(tmp_path / "a.webp", frames(), "WEBP")
    content = (tmp_path / "a.webp").read_bytes()
    with pytest.raises(ImageFileError, match=r"cut: is damaged or truncated|cut: is not a picture"):
        list(read_frames("cut", content[: len(content) * 2 // 3]))
    with pytest.raises(ImageFileError, match="does not exist"):
        frame_count(tmp_path / "nothing.gif")
    many = io.BytesIO()
    Pillow.new("P", (1, 1)).save(many, "GIF")
    whole = many.getvalue()
    start = whole.index(b",")
    assert frame_count("many.gif", whole[:start] + whole[start:-1] * 20_000 + b";") == 20_000
