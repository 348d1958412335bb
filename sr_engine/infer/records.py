"""What became of each picture of a manifest: JSON lines, written in parts by several processes, merged into one file.

A process appends to its own part only: a line when it starts a picture, a line when it has finished it. So nothing is
locked, whoever is killed leaves at most half a line, and the next one can tell what was being done. The outcome of a
picture is the newest of its finished lines over all files.
"""

import array
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from sr_engine.atomic import atomic_write
from sr_engine.errors import DataError
from sr_engine.infer.manifest import Entry, Manifest, target_hash

Status = Literal["done", "failed", "skipped"]
STARTED = "started"


@dataclass(frozen=True)
class Record:
    """The outcome of one picture, a line of the result manifest.

    source, target: as in the manifest; the target within the folder of results.
    status: "done" = upscaled; "failed", see `error`; "skipped" = a file was there that no record told of, and stayed.
    width, height, bytes: of the result. seconds: from opening the picture to the result on the disk.
    model, scale: what upscaled it. worker: which process. time: of the end, in seconds since 1970.
    """

    source: str
    target: str
    status: Status
    error: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    model: str | None = None
    scale: int | float | None = None
    worker: str | None = None
    time: float = field(default_factory=time.time)


class History(NamedTuple):
    """What files tell of one target. last: its outcome. deaths: how many processes ended while at it, since then."""

    last: Record | None
    deaths: int


@dataclass(frozen=True)
class Summary:
    """How many pictures ended how."""

    done: int
    failed: int
    skipped: int

    @property
    def count(self) -> int:
        return self.done + self.failed + self.skipped


class RecordWriter:
    """Appends lines to a part; half a line that a killed writer left is cut off first.

    Raises:
        OSError: the part cannot be written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        _cut_half_line(self._file)

    def started(self, target: str) -> None:
        """Note that a picture is being worked on."""
        self._write({"target": target, "status": STARTED, "time": time.time()})

    def finished(self, record: Record) -> None:
        """Note a picture's outcome."""
        self._write(asdict(record))

    def _write(self, content: dict[str, Any]) -> None:
        line = _line(content)
        if os.write(self._file, line) != len(line):
            raise OSError(f"{self.path}: only a part of a line could be written")

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):  # a file system that cannot: the lines are with the system in any case
            os.fsync(self._file)
        os.close(self._file)


class Records:
    """The lines of a result manifest and of parts, found by their target; 26 bytes of memory a line.

    Args:
        results: the merged file; need not exist.
        at_work: whether other processes write parts now. Their last lines, where they are starts, are left out then:
            those pictures are at work, while such a line of a process that is no more tells what it died of.
        own: the name of the part of this process.

    Raises:
        DataError: `results` is a file of another kind.
    """

    def __init__(self, results: Path, *, at_work: bool, own: str = "") -> None:
        parts = parts_folder(results)
        check_results(results)
        self._paths = [path for path in (results, *sorted(parts.glob("*.jsonl"))) if path.is_file()]
        self._files: dict[int, BinaryIO] = {}
        hashes, numbers = array.array("Q"), array.array("H")
        offsets, times = array.array("Q"), array.array("d")
        for number, path in enumerate(self._paths):
            others = at_work and path != results and path.name != own
            for offset, content in _without_last_start(_lines(path)) if others else _lines(path):
                hashes.append(target_hash(content["target"]))
                numbers.append(number)
                offsets.append(offset)
                times.append(content["time"])
        self._hashes, self._numbers = np.frombuffer(hashes, np.uint64), np.frombuffer(numbers, np.uint16)
        self._offsets = np.frombuffer(offsets, np.uint64)
        order = np.lexsort((self._offsets, self._numbers, np.frombuffer(times, np.float64), self._hashes))
        self._hashes, self._numbers, self._offsets = (x[order] for x in (self._hashes, self._numbers, self._offsets))

    def of(self, target: str) -> History:
        """What is known of a target."""
        key = np.uint64(target_hash(target))
        low, high = (int(np.searchsorted(self._hashes, key, side)) for side in ("left", "right"))
        deaths = 0
        for at in reversed(range(low, high)):
            content = self._read(at)
            if content["target"] != target:
                continue  # of the same hash
            if content["status"] != STARTED:
                return History(_record(content), deaths)
            deaths += 1
        return History(None, deaths)

    def _read(self, at: int) -> dict[str, Any]:
        number = int(self._numbers[at])
        if number not in self._files:
            self._files[number] = self._paths[number].open("rb")
        self._files[number].seek(int(self._offsets[at]))
        return json.loads(self._files[number].readline())

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def parts_folder(results: Path) -> Path:
    """Where the parts of a result manifest are while it is in the making."""
    return results.with_name(f"{results.name}.parts")


def check_results(results: Path) -> None:
    """Find out whether a result manifest can stand there.

    Raises:
        DataError: something else stands there.
    """
    if not results.exists():
        return
    if results.is_dir():
        raise DataError(f"{results}: is a folder, expected the name of a file for the results.")
    with results.open("rb") as file:
        first = file.readline()
    if first and _content(first) is None:
        raise DataError(f"{results}: exists and is no result manifest: choose another name for the results.")


def merge(manifest: Manifest, results: Path, unrecorded: Callable[[Entry], Record]) -> Summary:
    """Make one file of all parts: a line for each picture, in the manifest's order.

    The old file stays until the new one is whole. Several processes may do this at once: each writes a complete file.

    Args:
        unrecorded: gives the outcome of a picture that no line tells of.
    """
    counts: Counter[str] = Counter()
    with Records(results, at_work=True) as records, atomic_write(results) as temporary, temporary.open("wb") as file:
        for entry in manifest:
            record = records.of(entry.target).last or unrecorded(entry)
            file.write(_line(asdict(replace(record, source=entry.source))))
            counts[record.status] += 1
    return Summary(counts["done"], counts["failed"], counts["skipped"])


def _cut_half_line(file: int) -> None:
    end = os.lseek(file, 0, os.SEEK_END)
    start = end
    while start > 0:
        block = min(start, 65536)
        start -= block
        newline = os.pread(file, block, start).rfind(b"\n")
        if newline >= 0:
            start += newline + 1
            break
    if start < end:
        os.ftruncate(file, start)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Offset and content of each whole line; what a killed writer left of one is passed over."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if (content := _content(line)) is not None:
                yield offset, content
            offset += len(line)


def _content(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    expected = {"target": str, "status": str, "time": int | float}
    whole = isinstance(content, dict) and all(isinstance(content.get(key), kind) for key, kind in expected.items())
    return content if whole else None


def _without_last_start(lines: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    last = None
    for line in lines:
        if last is not None:
            yield last
        last = line
    if last is not None and last[1]["status"] != STARTED:
        yield last


def _record(content: dict[str, Any]) -> Record:
    return Record(**{"source": "", **{key: value for key, value in content.items() if key in _FIELDS}})


def _line(content: dict[str, Any]) -> bytes:
    try:
        return json.dumps(content, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a name of bytes that are no UTF-8
        return json.dumps(content).encode() + b"\n"


_FIELDS = frozenset(field.name for field in fields(Record))
