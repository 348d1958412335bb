"""JPEG (ITU-T T.81) strip by strip: each strip is encoded by itself, and their scans are joined by restart markers.

A restart marker is what the format has for this: the coder's state begins anew behind it, at a whole number of MCUs
(blocks of 8x8 or 16x16 pixels) told in the header. With the same tables, which "not optimised" gives, the joined file
is, byte for byte, what libjpeg writes of the whole picture with that restart interval.
"""

import io
import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sr_engine.data.encoders.header import Header
from sr_engine.data.exif import written_exif
from sr_engine.data.metadata import photoshop_block

SEGMENT = 65533  # bytes that a marker segment holds
_STRIP = 1 << 21  # bytes of samples, about
_LONGEST_INTERVAL = 65535  # MCUs
_SOF0, _SOS, _DRI = 0xC0, 0xDA, 0xDD


class JpegRows:
    """Call with finished rows (n, width, 1 | 3) of uint8; `finish` ends the file."""

    def __init__(self, file: BinaryIO, header: Header, quality: int) -> None:
        self._file, self._header, self._quality = file, header, quality
        mcu = 16 if header.channels == 3 else 8  # colour has half the resolution; grey alone has no such blocks
        mcus = -(-header.width // mcu)
        wanted = max(1, _STRIP // (header.bytes_per_row * mcu))
        mcu_rows = min(wanted, _LONGEST_INTERVAL // mcus)
        self._strip_rows, self._interval = mcu * mcu_rows, mcus * mcu_rows
        self._waiting: list[NDArray] = []
        self._rows_waiting, self._strips = 0, 0

    def __call__(self, rows: NDArray) -> None:
        at = 0
        while at < len(rows):
            part = rows[at : at + self._strip_rows - self._rows_waiting]
            at += len(part)
            self._rows_waiting += len(part)
            if self._rows_waiting == self._strip_rows:
                self._write_strip([*self._waiting, part])
            else:
                self._waiting.append(part.copy())

    def finish(self) -> None:
        if self._rows_waiting:
            self._write_strip(self._waiting)
        self._file.write(b"\xff\xd9")

    def _write_strip(self, parts: list[NDArray]) -> None:
        samples = np.concatenate(parts)
        self._waiting, self._rows_waiting = [], 0
        buffer = io.BytesIO()
        options = descriptions(self._header) if self._strips == 0 else {}
        picture = Pillow.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)
        picture.save(buffer, "JPEG", quality=self._quality, **options)
        head, scan_header, scan = _parts(buffer.getbuffer())
        if self._strips == 0:
            self._file.write(self._whole_head(head) + scan_header)
        else:
            self._file.write(bytes((0xFF, 0xD0 + (self._strips - 1) % 8)))
        self._file.write(scan)
        self._strips += 1

    def _whole_head(self, head: bytearray) -> bytes:
        """The head of the first strip with the height of all, and the restart interval where there are several."""
        at = _find(head, _SOF0)
        struct.pack_into(">H", head, at + 5, self._header.height)
        several = self._header.height > self._strip_rows
        return bytes(head) + (struct.pack(">BBHH", 0xFF, _DRI, 4, self._interval) if several else b"")


def descriptions(header: Header) -> dict[str, Any]:
    """What Pillow writes into a JPEG's head; what doesn't fit into a segment is left out."""
    options: dict[str, Any] = {}
    if header.dpi:
        options["dpi"] = header.dpi
    if header.icc and len(header.icc) <= 255 * (SEGMENT - 14):
        options["icc_profile"] = header.icc
    exif = written_exif(header.exif, header.width, header.height, header.dpi)
    if exif and len(exif) <= SEGMENT:
        options["exif"] = exif
    if header.xmp and len(header.xmp) <= SEGMENT - 29:
        options["xmp"] = header.xmp
    if header.iptc and len(header.iptc) <= SEGMENT - 28:
        block = b"Photoshop 3.0\0" + photoshop_block(header.iptc)
        options["extra"] = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    return options


def _parts(content: memoryview) -> tuple[bytearray, bytes, memoryview]:
    """All before the scan, the scan's header, and its data without the end of image."""
    scan = _find(content, _SOS)
    data = scan + 2 + int.from_bytes(content[scan + 2 : scan + 4])
    return bytearray(content[:scan]), bytes(content[scan:data]), content[data:-2]


def _find(content: bytearray | memoryview, marker: int) -> int:
    """Where a marker segment begins."""
    at = 2
    while content[at + 1] != marker:
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    return at
