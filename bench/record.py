"""Result files: one JSON file for each device, day and commit, written after each case.

    {"schema": 1, "machine": {...}, "versions": {...}, "commit", "dirty", "when", "ceilings": {...}, "cases": [...]}

Later runs of the same day and commit merge into the file; a case measured again replaces itself.
"""

import itertools
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine
from sr_engine.atomic import atomic_write

SCHEMA = 1
RESULTS = Path(os.environ.get("SR_BENCH_RESULTS") or Path(__file__).parent / "results")


class ResultsError(Exception):
    """A file that holds no results of ours."""


class Results:
    """The file that measurements of this run go to."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content

    @classmethod
    def open(cls, kind: str, folder: Path | None = None) -> "Results":
        """Of today and this commit on the "cpu" or "cuda" device, in `folder` or `RESULTS`; continues what is there."""
        now, (commit, dirty) = datetime.now(UTC), machine.commit()
        place = (folder or RESULTS) / machine.folder_name(kind)
        name = f"{now:%Y-%m-%d}-{commit}{'-changed' if dirty else ''}"
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "machine": machine.fingerprint(kind),
            "versions": machine.versions(),
            "commit": commit,
            "dirty": dirty,
            "when": now.isoformat(timespec="seconds"),
            "ceilings": {},
            "cases": [],
        }
        for number in itertools.count(1):  # what was measured with other versions keeps a file of its own
            path = place / (f"{name}.json" if number == 1 else f"{name}-{number}.json")
            before = load(path) if path.exists() else content
            if all(before[key] == content[key] for key in ("machine", "versions")):
                break
        content |= {key: before[key] for key in before if key != "when"}
        return cls(path, content)

    def add(self, case: Mapping[str, Any]) -> None:
        """Keep a case, in place of an earlier measurement of the same, and write the file."""
        self._refresh()
        cases = self.content["cases"]
        at = next((i for i, known in enumerate(cases) if known["key"] == case["key"]), len(cases))
        cases[at : at + 1] = [dict(case)]
        self.write()

    def put(self, section: str, value: Any) -> None:
        """Set a section beside the cases, such as "throughput", and write the file."""
        self._refresh()
        self.content[section] = value
        self.write()

    def _refresh(self) -> None:
        """Take over what another process has written meanwhile."""
        if self.path.exists():
            written = load(self.path)
            self.content |= {key: written[key] for key in written if key not in ("when", "ceilings")}

    def write(self) -> None:
        """A run that is stopped meanwhile leaves the file as it was."""
        with atomic_write(self.path) as temporary:
            temporary.write_text(_text(self.content), encoding="utf-8")


def _text(content: Mapping[str, Any]) -> str:
    """A line for each case, so that a change of one is a change of one line."""
    head = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items() if key != "cases"]
    cases = ",\n  ".join(json.dumps(case) for case in content["cases"])
    return "{\n" + ",\n".join([*head, f'"cases": [\n  {cases}\n]']) + "\n}\n"


def load(path: Path | str) -> dict[str, Any]:
    """A results file. Raises ResultsError with one sentence that names the file."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such results file") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ResultsError(f"{path}: expected results as JSON, got {type(error).__name__}: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ResultsError(f'{path}: expected results with "schema": {SCHEMA}; write them with `pytest bench/`')
    if missing := {"machine", "versions", "commit", "when", "cases"} - set(content):
        raise ResultsError(f"{path}: results without {', '.join(sorted(missing))}")
    return content
