"""Zip files that torch reads: how large they become, before they do."""

import zipfile
from pathlib import Path

# torch.save compresses nothing. Weights that somebody has zipped become half as large, or those of zeros less.
_GROWTH, _MORE = 16, 1 << 20


class ArchiveError(ValueError):
    """An archive that would become far larger than its file."""


def check_archive(path: Path) -> None:
    """Find out from the list of an archive's members what they would take; other files pass.

    Raises:
        ArchiveError: too much. Of any other kind: the list cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    size = path.stat().st_size
    if unpacked > _GROWTH * size + _MORE:
        raise ArchiveError(f"would unpack to {unpacked:,} bytes, from a file of {size:,}")
