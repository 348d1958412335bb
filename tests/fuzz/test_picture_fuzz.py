# ruff: noqa: PT017 (an error is one of two right outcomes)
"""Damaged pictures: a picture or an ImageFileError comes back, and no header makes the reader take much memory."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

import sr_engine
from sr_engine.data import metadata
from sr_engine.data.animation import read_frames
from sr_engine.data.images import FORMATS, image_size, read_image, write_image
from sr_engine.data.kinds import check_kind
from sr_engine.data.lossy import lossy_format
from sr_engine.data.metadata import BrokenError, photoshop_block
from sr_engine.data.sequence import frames_in, pages_in
from sr_engine.errors import EngineError, ImageFileError
from tests.fuzz.mutations import damaged, examples
from tests.fuzz.pictures import DEEP, IPTC, SAMPLES, XMP, deep, planes, saved

PACKAGE = Path(sr_engine.__file__).parent


def is_ours(error: BaseException | None) -> bool:
    """Whether an error was raised by the engine's own lines, not on purpose: a decoder would raise it further down."""
    trace = None if error is None or isinstance(error, EngineError | BrokenError) else error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(PACKAGE) in trace.tb_frame.f_code.co_filename


@pytest.fixture(autouse=True)
def _descriptions_without_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken descriptions are left out quietly; a defect in reading them shall not be."""

    def attempt(read: Callable[[], Any], what: str, notes: list[str]) -> Any:
        try:
            return read()
        except Exception as error:
            if is_ours(error):
                raise DefectError(repr(error)) from error
            notes.append(what)
            return None

    monkeypatch.setattr(metadata, "_attempt", attempt)


class DefectError(BaseException):
    """Nothing that catches exceptions catches this."""


def refused(path: Path, error: ImageFileError) -> None:
    """The right kind of refusal: one sentence about the file, and not of a defect of our own."""
    said = str(error)
    assert said.startswith(f"{path}: ")
    assert said.endswith(".")
    assert "\n" not in said
    cause: BaseException | None = error
    while cause is not None:
        assert not is_ours(cause), repr(cause)
        cause = cause.__cause__


def pillow_reads(path: Path) -> bool:
    """Whether the decoder below reads a file: then so must we."""
    try:
        with Pillow.open(path, formats=FORMATS) as file:
            file.load()
            planes = file.format == "TIFF" and getattr(file, "tag_v2", {}).get(284) == 2
            return file.mode in ("L", "LA", "P", "PA", "RGB", "RGBA", "1", "CMYK", "I;16") and not planes
    except Exception:
        return False


def outcome(path: Path) -> bool:
    """Read a picture, its size and its frames; whether there is one. A whole picture can be written again."""
    try:
        size = image_size(path)
        assert min(size) >= 1
    except ImageFileError as error:
        refused(path, error)
    if path.suffix in (".gif", ".webp", ".png", ".avif"):
        try:
            for frame in islice(read_frames(path), 3):
                assert frame.image.pixels.dtype == np.uint8
                assert frame.duration_ms > 0
        except ImageFileError as error:
            refused(path, error)
    lossy_format(path)
    try:
        image = read_image(path)
    except ImageFileError as error:
        refused(path, error)
        # What is refused by its kind or as a trap has no cause; what a decoder is blamed for, it must have refused.
        assert error.__cause__ is None or not pillow_reads(path), said_of(error)
        return False
    height, width, channels = image.pixels.shape
    assert height >= 1
    assert width >= 1
    assert channels in (1, 3)
    assert image.pixels.dtype in (np.uint8, np.uint16)
    assert image.alpha is None or (image.alpha.shape, image.alpha.dtype) == ((height, width), image.pixels.dtype)
    assert all(note.endswith(".") and "\n" not in note for note in image.notes)
    if height * width < 10_000:
        for suffix in (".png", ".tif"):
            write_image(path.with_name(f"again{suffix}"), image)
            again = read_image(path.with_name(f"again{suffix}"))
            assert np.array_equal(again.pixels, image.pixels)
            assert (again.icc, again.xmp, again.iptc) == (image.icc, image.xmp, image.iptc)
            assert (again.exif is None) == (image.exif is None)
    return True


def said_of(error: ImageFileError) -> str:
    return f"Pillow reads it, we say: {error} ({error.__cause__!r})"


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
    ppm = b"P6 2 3 65535\n" + bytes(range(36))
    whole = [deep("png", tmp_path), deep("tif", tmp_path), tiff.getvalue(), planes(), ppm]

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


@pytest.mark.parametrize("suffix", SAMPLES)
def test_structures_cut_off_anywhere(suffix: str) -> None:
    """What is read without a decoder: nothing but a refusal may come out of a file that ends early."""
    for content in SAMPLES[suffix]:
        kind = SimpleNamespace(format={".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}.get(suffix))
        for end in {*range(min(len(content), 120)), *range(0, len(content), max(1, len(content) // 60))}:
            stream = io.BytesIO(content[:end])
            with suppress(ImageFileError):
                check_kind(Path("a.nef"), stream)
            assert frames_in(kind, stream) >= 1
            assert pages_in(stream) >= 1


@examples(100)
@given(
    block=st.binary(max_size=30) | damaged([photoshop_block(IPTC) * 2, IPTC, XMP]),
    text=st.text(max_size=9) | damaged([b"\niptc\n 4\n3842\n4d04"]).map(lambda data: data.decode("latin-1")),
    words=st.lists(st.integers(-1, 2**33) | st.sampled_from([b"x", "x", None]), max_size=3).map(tuple),
)
def test_descriptions_of_any_bytes(block: bytes, text: str, words: tuple[object, ...]) -> None:
    for value in (block, words, text):
        tags = Tags({700: value, 33723: None, 34377: value}, prefix=b"MM")
        for form in ("TIFF", "PNG"):
            info = {"xmp": value, "photoshop": {0x0404: value}, "dpi": value, "Raw profile type iptc": text}
            for kept in (info, {"Raw profile type iptc": text, "Raw profile type xmp": text}, {}):
                file = SimpleNamespace(format=form, info=kept, tag_v2=tags, getexif=Pillow.Exif)
                said = metadata.read_metadata(file)
                assert said.xmp is None or isinstance(said.xmp, bytes)
                assert said.iptc is None or isinstance(said.iptc, bytes)


class Tags(dict[int, object]):
    """As Pillow's directory of tags, which also knows its byte order."""

    def __init__(self, tags: dict[int, object], prefix: bytes) -> None:
        super().__init__(tags)
        self.prefix = prefix


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
    jpeg, gif = saved("JPEG"), saved("GIF", "L")
    sof = jpeg.index(b"\xff\xc0") + 5
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: side, 279: 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return {
        ".png": repaired(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + head + b"\0" * 8 + b"IEND" + b"\0" * 4),
        ".bmp": saved("BMP")[:18] + struct.pack("<ii", side, side) + saved("BMP")[26:],
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
