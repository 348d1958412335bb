"""Small pictures of every kind and mode that is read, to be damaged."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms, PngImagePlugin

from sr_engine.data.images import Image, write_image
from sr_engine.data.metadata import photoshop_block

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta tiff:Orientation="6" dc:title="a"><xmp:Thumbnails>b</xmp:Thumbnails></x:xmpmeta>'
IPTC = b"\x1c\x02\x05\x00\x05title"
RGB = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (7, 5, 3), np.uint16)


def saved(form: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(RGB).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def exif_block() -> bytes:
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010E], exif[0x9286] = 6, "a picture", "words"
    exif.get_ifd(0x8769)[0x9003] = "2026:11:23 12:00:00"
    return exif.tobytes()


def _png_text() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    block = photoshop_block(IPTC)
    text.add_text("Raw profile type iptc", f"\niptc\n{len(block):8d}\n{block.hex()}\n")
    return text


def _app13() -> bytes:
    block = b"Photoshop 3.0\0" + photoshop_block(IPTC)
    return b"\xff\xed" + struct.pack(">H", len(block) + 2) + block


def _tagged() -> Pillow.Exif:
    exif = Pillow.Exif()
    exif.load(exif_block())
    exif[700], exif[33723] = XMP, IPTC
    return exif


def planes() -> bytes:
    tifffile.imwrite(buffer := io.BytesIO(), DEEP.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    return buffer.getvalue()


def deep(form: str, folder: Path) -> bytes:
    write_image(folder / f"deep.{form}", Image(DEEP, DEEP[:, :, 0], ICC, exif_block()))
    return (folder / f"deep.{form}").read_bytes()


def _samples() -> dict[str, list[bytes]]:
    both: dict[str, Any] = {"icc_profile": ICC, "exif": exif_block()}
    frames = [Pillow.fromarray(RGB), Pillow.fromarray(RGB[::-1].copy())]
    return {
        ".png": [
            *(saved("PNG", mode, **both) for mode in ("RGB", "RGBA", "LA", "L", "1")),
            saved("PNG", "P", transparency=3, **both),
            saved("PNG", "L", transparency=7),
            saved("PNG", **both, pnginfo=_png_text(), dpi=(72, 72)),
            saved("PNG", save_all=True, append_images=frames, duration=50),
        ],
        ".jpg": [
            saved("JPEG", **both, xmp=XMP, dpi=(72, 72), extra=_app13()),
            saved("JPEG", "L"),
            saved("JPEG", "CMYK"),
            saved("JPEG", progressive=True),
        ],
        ".webp": [
            saved("WEBP", **both, xmp=XMP),
            saved("WEBP", "RGBA", lossless=True),
            saved("WEBP", save_all=True, append_images=frames),
        ],
        ".tif": [
            *(saved("TIFF", mode, compression=kind) for mode, kind in (("RGB", "tiff_lzw"), ("L", "tiff_deflate"))),
            *(saved("TIFF", mode, icc_profile=ICC) for mode in ("RGB", "RGBA", "CMYK", "LAB", "P", "1")),
            saved("TIFF", "1", compression="group4"),
            saved("TIFF", "RGB", compression="jpeg"),
            saved("TIFF", "RGB", compression="packbits"),
            saved("TIFF", exif=_tagged(), dpi=(72, 72)),
            saved("TIFF", save_all=True, append_images=frames),
        ],
        ".bmp": [saved("BMP"), saved("BMP", "P"), saved("BMP", "1"), saved("BMP", "RGBA")],
        ".gif": [saved("GIF", "P", save_all=True, append_images=frames, transparency=1), saved("GIF", "L")],
        ".ppm": [saved("PPM"), saved("PPM", "L"), b"P2 2 2 9 1 2 3 4", b"P3\n# x\n1 1 255 1 2 3", saved("PPM", "1")],
        ".avif": [saved("AVIF", **both), saved("AVIF", "RGBA")],
    }


SAMPLES = _samples()
