"""Descriptions of pictures: read, cleaned of what was true of the old file alone, and never the end of a picture."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, ImageCms, PngImagePlugin
from PIL import Image as Pillow

from sr_engine.data.images import Image, image_size, read_image
from sr_engine.data.metadata import photoshop_block

RGB = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
IPTC = b"\x1c\x02\x05\x00\x05title\x1c\x02\x50\x00\x06author"
XMP = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6" '
    b"dc:title=\"a title\" exif:PixelXDimension='9'><tiff:Orientation>6</tiff:Orientation>"
    b"<xmp:Thumbnails><rdf:Alt>old</rdf:Alt></xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def exif(orientation: int = 6) -> Pillow.Exif:
    block = Pillow.Exif()
    block[0x0112], block[0x010F], block[0x013B] = orientation, "maker", "Ann Example"
    block[0x011A], block[0x011B], block[0x0128] = 300.0, 300.0, 2
    inner = block.get_ifd(0x8769)
    inner[0x9003], inner[0xA002], inner[0xA003], inner[0x829A] = "2026:11:23 12:00:00", 14, 9, 0.005
    block.get_ifd(0x8825)[1] = "N"
    return block


def saved(form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(RGB).save(buffer, form, **options)
    return buffer.getvalue()


def parsed(image: Image) -> Pillow.Exif:
    assert image.exif is not None
    block = Pillow.Exif()
    block.load(image.exif)
    return block


def jpeg_with_everything() -> bytes:
    app13 = b"Photoshop 3.0\0" + photoshop_block(IPTC)
    extra = b"\xff\xed" + (len(app13) + 2).to_bytes(2) + app13
    return saved("JPEG", exif=exif(), xmp=XMP, icc_profile=SRGB, dpi=(72, 72), extra=extra)


def png_with_everything() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    block = photoshop_block(IPTC)
    text.add_text("Raw profile type iptc", f"\niptc\n{len(block):8d}\n{block.hex()}\n", zip=True)
    return saved("PNG", exif=exif(), pnginfo=text, icc_profile=SRGB, dpi=(300, 300))


def tiff_with_everything() -> bytes:
    block = Pillow.Exif()
    block.load(exif().tobytes())  # Pillow writes directories into a TIFF only if it has read them
    block[700], block[33723] = XMP, IPTC
    return saved("TIFF", exif=block, icc_profile=SRGB, dpi=(300, 300))


@pytest.mark.parametrize("make", [jpeg_with_everything, png_with_everything, tiff_with_everything])
def test_everything_is_read_and_the_old_file_forgotten(make: Any) -> None:
    content = make()
    image = read_image("given", content)
    assert image.pixels.shape == (14, 9, 3)
    assert image_size("given", content) == (14, 9)
    assert image.icc == SRGB
    assert image.iptc == IPTC
    assert image.dpi == pytest.approx((72, 72) if make is jpeg_with_everything else (300, 300), rel=1e-3)
    assert image.xmp is not None
    assert b"a title" in image.xmp
    assert not any(old in image.xmp for old in (b"Orientation", b"PixelXDimension", b"old"))
    assert image.notes == ()
    block = parsed(image)
    assert block[0x010F] == "maker"
    assert block[0x013B] == "Ann Example"
    assert block.get_ifd(0x8769)[0x9003] == "2026:11:23 12:00:00"
    assert float(block.get_ifd(0x8769)[0x829A]) == pytest.approx(0.005)
    assert block.get_ifd(0x8825)[1] == "N"
    for old in (0x0112, 0x011A, 256, 257, 258, 273, 279):
        assert old not in block
    assert 0xA002 not in block.get_ifd(0x8769)


def test_the_preview_in_exif_is_left_out() -> None:
    whole = exif().tobytes()
    preview = saved("JPEG")
    # A second directory behind the first: JPEGInterchangeFormat and its length.
    body = whole[6:]
    order = "little" if body[:2] == b"II" else "big"
    first = int.from_bytes(body[4:8], order)
    entries = int.from_bytes(body[first : first + 2], order)
    link = first + 2 + 12 * entries
    second = len(body)
    directory = (2).to_bytes(2, order)
    for tag, value in ((513, second + 2 + 24 + 4), (514, len(preview))):
        directory += tag.to_bytes(2, order) + (4).to_bytes(2, order) + (1).to_bytes(4, order) + value.to_bytes(4, order)
    block = b"Exif\0\0" + body[:link] + second.to_bytes(4, order) + body[link + 4 :] + directory + b"\0" * 4 + preview
    with Pillow.open(io.BytesIO(saved("JPEG", exif=block))) as before:
        assert before.getexif().get_ifd(ExifTags.IFD.IFD1)[514] == len(preview)  # the test's own block is right
    image = read_image("given", saved("JPEG", exif=block))
    assert image.exif is not None
    assert preview[:20] not in image.exif
    assert parsed(image)[0x010F] == "maker"


def test_a_profile_of_other_colours_is_left_out_with_a_note(tmp_path: Path) -> None:
    Pillow.fromarray(RGB).save(tmp_path / "a.png", icc_profile=LAB)
    image = read_image(tmp_path / "a.png")
    assert image.icc is None
    assert image.notes == ("its colour profile is broken or for another kind of colour and was left out.",)
    Pillow.fromarray(RGB).convert("L").save(tmp_path / "b.png", icc_profile=SRGB)
    assert read_image(tmp_path / "b.png").icc is None


def test_cmyk_says_so() -> None:
    buffer = io.BytesIO()
    Pillow.new("CMYK", (4, 4)).save(buffer, "TIFF")
    assert read_image("a", buffer.getvalue()).notes == (
        "CMYK without a usable profile was converted to RGB by the plain formula.",
    )


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_descriptions_cost_nothing_but_themselves() -> None:
    for block in (b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0" + exif().tobytes()[6:40]):
        image = read_image("a", saved("JPEG", exif=block))
        assert image.pixels.shape == (9, 14, 3)
    assert read_image("a", saved("PNG", exif=b"Exif\0\0nonsense")).notes != ()
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type iptc", "\niptc\n 4\nno hexadecimal")
    image = read_image("a", saved("PNG", pnginfo=text))
    assert image.iptc is None
    assert image.notes == ("its IPTC data could not be read and was left out.",)


def test_impossible_resolutions_are_none() -> None:
    for dpi in ((0, 0), (1, 72), (1e9, 1e9)):
        assert read_image("a", saved("TIFF", dpi=dpi)).dpi is None
