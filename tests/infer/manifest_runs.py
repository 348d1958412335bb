"""Small pictures with a manifest, for the tests that upscale it in one process, under torchrun and with Ray."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BAD = {3: b"no picture", 7: b"", 11: None}  # picture number: what the file has; None = there is none


def write_pictures(folder: Path, count: int, side: int = 8) -> Path:
    """`count` pictures with three bad ones among them, and the manifest that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    names = [f"{number % 3}/picture {number:03}.png" for number in range(count)]
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if number not in BAD:
            Image.fromarray(noise.integers(0, 256, (side, side + number % 4, 3), np.uint8)).save(path)
        elif (content := BAD[number]) is not None:
            path.write_bytes(content)
    manifest = folder / "pictures.txt"
    manifest.write_text("\n".join(names) + "\n")
    return manifest


def read_records(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()]


def check_run(out: Path, expected: Path, count: int) -> None:
    """Nothing is missing, doubled or left behind, and every result equals that of one process in `expected`."""
    records, theirs = read_records(out / "results.jsonl"), read_records(expected / "results.jsonl")
    assert len(records) == len(theirs) == count
    assert [record["target"] for record in records] == [record["target"] for record in theirs]
    assert Counter(record["status"] for record in records) == {"done": count - len(BAD), "failed": len(BAD)}
    assert [number for number, record in enumerate(records) if record["status"] == "failed"] == list(BAD)
    for record, other in zip(records, theirs, strict=True):
        assert record["error"] == other["error"]
        if record["status"] == "done":
            with Image.open(out / record["target"]) as picture, Image.open(expected / record["target"]) as same:
                assert picture.size == (record["width"], record["height"])
                assert np.array_equal(np.asarray(picture), np.asarray(same))
            assert (out / record["target"]).stat().st_size == record["bytes"]
    assert files(out) == files(expected)


def files(folder: Path) -> set[str]:
    """All files, hidden ones too, but for the parts of the result manifest."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if path.parts[0] != "results.jsonl.parts"}
