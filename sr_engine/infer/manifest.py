"""Lists of millions of pictures: which file becomes which, read line by line and checked as a whole before any work.

Paths are handled as text where each line passes: pathlib takes several times as long.
"""
# ruff: noqa: PTH100, PTH118, PTH122

import array
import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from sr_engine.data.images import output_format
from sr_engine.errors import DataError, EngineError

Kind = Literal["text", "csv", "jsonl"]

_KINDS: dict[str, Kind] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_WRITTEN = (".png", ".jpg", ".webp", ".tif")  # known to be; of others `output_format` tells
_SHOWN = 20  # bad lines in a message; the others are counted


class Entry(NamedTuple):
    """A picture of a manifest. source: as its line says. target: within the folder of results, with `/`."""

    line: int
    source: str
    target: str


@dataclass(frozen=True)
class Manifest:
    """A checked list of pictures; iterating reads the file anew, a line at a time.

    Attributes:
        out: the folder of results.
        name: gives the path of a result within `out` where a line names no target, from the picture's place: its path
            within the manifest's folder; for pictures elsewhere their whole path without the root. Both with `/`.
        count: how many pictures.
    """

    path: Path
    out: Path
    kind: Kind
    name: Callable[[str], str]
    count: int
    version: tuple[int, int]

    def __iter__(self) -> Iterator[Entry]:
        """The pictures in the order of the lines.

        Raises:
            DataError: the file is no longer the one that was checked.
        """
        if _version(self.path) != self.version:
            raise DataError(f"{self.path}: was changed after the start: start again, what is done stays done.")
        for found in _entries(self.path, self.kind, self.out, self.name):
            if isinstance(found, _Bad):
                raise DataError(f"{self.path}, line {found.line}: {found.reason}.")
            yield found

    def source(self, entry: Entry) -> Path:
        """The picture's file."""
        return self.path.parent / entry.source

    def target(self, entry: Entry) -> Path:
        """The file of its result."""
        return self.out / entry.target


class _Bad(NamedTuple):
    line: int
    reason: str


def plain_name(suffix: str, ending: str = ".png") -> Callable[[str], str]:
    """Results called `<name><suffix><ending>`, in the picture's place."""
    return lambda place: f"{os.path.splitext(place)[0]}{suffix}{ending}"


def open_manifest(path: str | Path, out: str | Path, name: Callable[[str], str]) -> Manifest:
    """Check a list of pictures and count them: one path a line, CSV with the header `source[,target]`, or JSONL of
    `{"source": ..., "target": ...}`.

    The kind is told by the suffix (.csv, .jsonl, .ndjson), of others by the first line. Relative sources start at the
    manifest's folder, relative targets at `out`. Further columns and keys are left alone, empty lines are passed over.
    Names are UTF-8; other bytes are kept as the system has them. Eight bytes of memory are taken for a line.

    Args:
        out, name: as of `Manifest`.

    Raises:
        DataError: it cannot be read, has no pictures, or has lines that cannot be used: all of them are counted and the
            first 20 shown with their numbers. Among them are two lines with one result.
    """
    path, out = Path(path), Path(out)
    try:
        version = _version(path)
        _check_text(path)
        kind = _KINDS.get(path.suffix.lower()) or _kind_by_content(path)
        bad: list[_Bad] = []
        count, hashes = 0, array.array("Q")
        for found in _entries(path, kind, out, name):
            if isinstance(found, _Bad):
                bad.append(found)
            else:
                hashes.append(target_hash(found.target))
                count += 1
        bad += _doubled(_entries(path, kind, out, name), np.frombuffer(hashes, np.uint64)) if count else []
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a manifest: {error.strerror or error}.") from error
    if bad:
        raise DataError(_bad_lines(path, sorted(bad)))
    if not count:
        raise DataError(f"{path}: names no pictures: expected a path a line, CSV with a column source, or JSONL.")
    return Manifest(path, out, kind, name, count, version)


def target_hash(target: str) -> int:
    """64 bits that stand for a target where millions are kept in memory."""
    return int.from_bytes(hashlib.blake2b(target.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _entries(path: Path, kind: Kind, out: Path, name: Callable[[str], str]) -> Iterator[Entry | _Bad]:
    folder, results = (os.path.join(os.path.abspath(place), "") for place in (path.parent, out))  # links stay links
    for line, source, target in _fields(path, kind):
        if isinstance(source, _Bad):
            yield source
            continue
        try:
            full = os.path.normpath(os.path.join(folder, source))
            within = _within(results, target) if target else name(_place(folder, full))
            _check(source, full, within, results)
            yield Entry(line, source, within)
        except (EngineError, ValueError) as error:
            yield _Bad(line, str(error).rstrip("."))


def _check(source: str, full: str, within: str, results: str) -> None:
    if "\0" in source or "\0" in within:
        raise DataError("has a zero byte")
    if "://" in source:
        raise DataError(f"'{source}' is an address, expected the path of a file: mount or copy it first")
    if os.path.splitext(within)[1] not in _WRITTEN:
        output_format(within)
    if results + within == full:
        raise DataError(f"{source} would be replaced by its own result: choose another folder for results")


def _place(folder: str, full: str) -> str:
    inside = full.startswith(folder)
    place = full.removeprefix(folder) if inside else os.path.splitdrive(full)[1].lstrip(os.sep)
    if not place.strip("."):
        raise DataError(f"'{full}' is no path of a file")
    return place.replace(os.sep, "/")


def _within(results: str, target: str) -> str:
    full = os.path.normpath(os.path.join(results, target))
    if not full.startswith(results):
        raise DataError(f"target '{target}' is outside of the folder of results {results}")
    return full.removeprefix(results).replace(os.sep, "/")


def _fields(path: Path, kind: Kind) -> Iterator[tuple[int, str | _Bad, str]]:
    """Line, source and target (may be empty) of each line that isn't empty."""
    # newline="": the csv module wants them; of the others only the last one is taken away.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="" if kind == "csv" else "\n") as file:
        if kind == "csv":
            yield from _csv_fields(file, path)
            return
        for number, raw in enumerate(file, 1):
            line = raw.removesuffix("\n").removesuffix("\r")
            if not line.strip():
                continue
            try:
                source, target = _json_fields(line) if kind == "jsonl" else (line, "")
                yield number, source, target
            except ValueError as error:
                yield number, _Bad(number, str(error)), ""


def _json_fields(line: str) -> tuple[str, str]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error})") from error
    source = content.get("source") if isinstance(content, dict) else None
    if not isinstance(source, str) or not source:
        raise ValueError('has no text "source": expected {"source": ..., "target": ...}')
    target = content.get("target") or ""
    if not isinstance(target, str):
        raise ValueError(f'"target" is {target!r}, expected a text')
    return source, target


def _csv_fields(file: Iterable[str], path: Path) -> Iterator[tuple[int, str | _Bad, str]]:
    reader, last = csv.DictReader(file, strict=True, skipinitialspace=True), 0
    try:
        columns = [column.strip() for column in reader.fieldnames or ()]
        if "source" not in columns:
            raise DataError(
                f"{path}: has no column 'source' in its first line, only {', '.join(columns) or 'nothing'}."
            )
        reader.fieldnames = columns
        last = reader.line_num
        for row in reader:
            last = reader.line_num
            if source := row["source"]:
                yield reader.line_num, source, row.get("target") or ""
            else:
                yield reader.line_num, _Bad(reader.line_num, "has no source"), ""
    except csv.Error as error:  # what follows cannot be told apart any more
        line = max(reader.line_num, last + 1)
        yield line, _Bad(line, f"is no CSV ({error}); nothing after it was read"), ""


def _check_text(path: Path) -> None:
    """Raises DataError for pictures, archives and UTF-16, which PowerShell writes: they have zero bytes early."""
    with path.open("rb") as file:
        if b"\0" in file.read(16):
            raise DataError(f"{path}: is no UTF-8 text: expected a path a line, CSV with a column source, or JSONL.")


def _kind_by_content(path: Path) -> Kind:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        first = next((line.strip() for line in file if line.strip()), "")
    if first.startswith("{") and first.endswith("}"):
        return "jsonl"
    return "csv" if "source" in [column.strip().strip('"') for column in first.split(",")] else "text"


def _doubled(entries: Iterable[Entry | _Bad], hashes: np.ndarray) -> list[_Bad]:
    """The lines whose target an earlier line has; the file is read again only where hashes meet."""
    ordered = np.sort(hashes)
    suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    first: dict[str, int] = {}
    bad = []
    for entry in entries if suspects else ():
        if isinstance(entry, Entry) and target_hash(entry.target) in suspects:
            if entry.target in first:
                same = f"{entry.source} would become {entry.target} as line {first[entry.target]} does: name targets"
                bad.append(_Bad(entry.line, same))
            first.setdefault(entry.target, entry.line)
    return bad


def _bad_lines(path: Path, bad: list[_Bad]) -> str:
    if len(bad) == 1:
        return f"{path}, line {bad[0].line}: {bad[0].reason}."
    lines = [f"{path}: {len(bad)} lines cannot be used:", *(f"  line {line}: {why}." for line, why in bad[:_SHOWN])]
    return "\n".join([*lines, f"  and {len(bad) - _SHOWN} more."] if len(bad) > _SHOWN else lines)


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
