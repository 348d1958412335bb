"""Files that want to hang, crash or swallow the reader, and machines that get in the way: one sentence each."""

import io
import os
import re
import socket
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFile

from sr_engine.data import opened
from sr_engine.data.animation import Frame, frame_count, read_frames, write_animation
from sr_engine.data.directories import asks_too_much
from sr_engine.data.encoders.png import chunk
from sr_engine.data.images import Image, image_size, read_image, write_image
from sr_engine.data.lossy import lossy_format
from sr_engine.data.sequence import pages_in
from sr_engine.errors import ImageFileError

RGB = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def saved(form: str, **options: Any) -> bytes:
    Pillow.fromarray(RGB).save(buffer := io.BytesIO(), form, **options)
    return buffer.getvalue()


def refused(path: Path | str, said: str, content: bytes | None = None) -> None:
    for read in (read_image, frame_count):
        with pytest.raises(ImageFileError, match=rf"^{re.escape(str(path))}: {said}") as caught:
            read(path, content)
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)


def test_pipes_sockets_and_devices_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        for name, said in (("pipe.png", "is a pipe, socket or device"), ("s.png", "cannot be opened|is a pipe")):
            refused(tmp_path / name, said)
            assert lossy_format(tmp_path / name) is None
    for device in ("/dev/null", "/dev/zero"):
        refused(device, "is a pipe, socket or device, expected a picture file")


def test_names_of_every_kind(tmp_path: Path) -> None:
    for name in ("ü 写真 (1).png", "a\nb.png", " .png", "-o.png", "a" * 251 + ".png"):
        write_image(tmp_path / name, RGB)
        assert np.array_equal(read_image(tmp_path / name).pixels, RGB)
    refused(tmp_path / ("a" * 300 + ".png"), "cannot be opened: File name too long")
    with pytest.raises(ImageFileError, match="cannot be written: File name too long"):
        write_image(tmp_path / ("a" * 300 + ".png"), RGB)
    refused("a\0b.png", "cannot be opened: embedded null byte")
    refused(tmp_path, "is a folder, expected a picture")
    refused(tmp_path / " .png" / "a.png", "does not exist")


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for target in ("file/a.png", "folder.png", "/dev/null/a.png", "/proc/a.png"):
        with pytest.raises(ImageFileError, match=rf"{target}: cannot be written: [^:]+\.$"):
            write_image(tmp_path / target, RGB)
        with pytest.raises(ImageFileError, match=rf"{target}: cannot be written: [^:]+\.$"):
            write_animation(tmp_path / target, iter([Frame(Image(RGB), 50)]), "PNG")


def test_a_file_that_changes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    for limit in (opened.IN_MEMORY, 10):  # read at once, and while it is decoded
        monkeypatch.setattr(opened, "IN_MEMORY", limit)
        write_image(path, RGB)
        assert np.array_equal(read_image(path).pixels, RGB)
        real = os.fstat
        calls = 0

        def growing(number: int, path: Path = path, real: Callable = real) -> os.stat_result:
            nonlocal calls
            state = real(number)
            calls += 1
            if calls == 2:  # after the first look, before what follows
                with path.open("ab") as file:
                    file.write(b"more")
            return state

        monkeypatch.setattr(os, "fstat", growing)
        with pytest.raises(ImageFileError, match=r"a\.png: changed while it was being read: try again when it is com"):
            read_image(path)
        monkeypatch.setattr(os, "fstat", real)


def test_a_file_that_vanishes_while_it_is_read_is_whole_or_told(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            write_image(path, RGB)
            path.unlink()

    worker = threading.Thread(target=replace)
    worker.start()
    try:
        for _ in range(50):
            try:
                assert np.array_equal(read_image(path).pixels, RGB)
            except ImageFileError as error:
                assert re.search(r"does not exist|changed while", str(error))  # noqa: PT017
    finally:
        stop.set()
        worker.join()


def directory(entries: int, pointed: int) -> bytes:
    """A TIFF directory whose entries all point at the same bytes."""
    table = b"".join(struct.pack("<HHII", 1000 + k, 7, pointed, 8) for k in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + table + b"\0" * 4 + bytes(pointed)


def test_tags_that_ask_for_more_than_there_is(tmp_path: Path) -> None:
    trap = directory(30_000, 300_000)  # 9 GB
    path = tmp_path / "a.tif"
    path.write_bytes(trap)
    tracemalloc.start()
    refused(path, "has tags that ask for much more memory than the file has bytes")
    assert lossy_format(path) is None
    for content in (saved("PNG", exif=trap), saved("WEBP", exif=b"Exif\0\0" + trap)):
        image = read_image("a", content)
        assert image.pixels.shape == (16, 24, 3)
        assert image.exif is None
        assert image.notes == ("its EXIF data could not be read and was left out.",)
        assert image_size("a", content) == (16, 24)
    parts = [b"Exif\0\0" + trap[at : at + 65_000] for at in range(0, len(trap), 65_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(part)) + part for part in parts)
    jpeg = saved("JPEG")
    refused("a.jpg", "has tags that ask for much more memory than the file has bytes", jpeg[:2] + segments + jpeg[2:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_places_beyond_the_end_are_not_gone_to() -> None:
    for place in (2**63, 2**64 - 1, 100, 0):
        content = b"II+\0\x08\0\0\0" + struct.pack("<Q", place)
        assert pages_in(io.BytesIO(content)) == 1
        assert not asks_too_much(io.BytesIO(content))
        with pytest.raises(ImageFileError, match="a: is "):
            read_image("a", content)


def test_compressed_chunks_that_grow(tmp_path: Path) -> None:
    plain = saved("PNG")
    bomb = zlib.compress(bytes(200 << 20), 9)
    text = b"Raw profile type iptc\0\0"
    for part in (
        chunk(b"iCCP", b"icc\0\0" + bomb),
        chunk(b"zTXt", text + bomb),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb),
    ):
        tracemalloc.start()
        refused("bomb.png", "has compressed text or a profile that grows beyond 1 MiB", plain[:33] + part + plain[33:])
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
        tracemalloc.stop()


def test_frames_of_enormous_size_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gif = saved("GIF")
    with pytest.raises(ImageFileError, match="has more than 178,956,970 pixels"):
        list(read_frames("a.gif", gif[:6] + struct.pack("<HH", 60_000, 60_000) + gif[10:]))


# What decoders have thrown at damaged files, somewhere, at some time.
THROWN = [
    KeyError(258), IndexError("list index out of range"), SyntaxError("broken PNG file"), ValueError(), TypeError("x"),
    struct.error("unpack requires a buffer"), OverflowError(), ZeroDivisionError(), EOFError(), AssertionError(),
    AttributeError("a"), RecursionError(), UnicodeDecodeError("ascii", b"x", 0, 1, "y"), zlib.error("x"), OSError("x"),
    NotImplementedError(), RuntimeError("two\nlines"), MemoryError(), BufferError(), LookupError(), StopIteration(),
    Pillow.DecompressionBombError(), Pillow.DecompressionBombWarning(), UserWarning("x"), FileNotFoundError(),
]  # fmt: skip


@pytest.mark.parametrize("error", THROWN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["open", "load", "convert"])
def test_whatever_a_decoder_throws_is_one_sentence(monkeypatch, error: Exception, place: str) -> None:
    def throw(*_: object, **__: object) -> None:
        raise error

    target = {"open": (Pillow, "open"), "load": (ImageFile.ImageFile, "load"), "convert": (Pillow.Image, "convert")}
    content, tiff = saved("GIF"), saved("TIFF")
    monkeypatch.setattr(*target[place], throw)
    for read in (read_image, lambda *given: list(read_frames(*given))):
        with pytest.raises(ImageFileError, match=r"^a\.gif: [^\n]+\.$") as caught:
            read("a.gif", content)
        assert caught.value.__cause__ is error
    assert lossy_format("a.tif", tiff if place == "open" else b"") is None


@pytest.mark.parametrize("error", THROWN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["get", "get_ifd", "tobytes", "load"])
def test_whatever_reading_exif_throws_costs_the_exif_alone(monkeypatch, error: Exception, place: str) -> None:
    exif = Pillow.Exif()
    exif[0x010F] = "maker"
    content = saved("PNG", exif=exif.tobytes())

    def throw(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Pillow.Exif, place, throw)
    image = read_image("a", content)
    assert image.pixels.shape == (16, 24, 3)
    assert image.exif is None
    assert image.notes == ("its EXIF data could not be read and was left out.",)
    assert image_size("a", content) == (16, 24)
