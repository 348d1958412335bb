"""Sweep over the configurations of the Triton kernels on this GPU, for the tables that say how they are cut.

    python -m bench.tune --list                                      # shape classes and how many candidates each has
    python -m bench.tune [OP or SHAPE ...] [--dtype bf16] [--seconds 480] [--json FILE]
    python -m bench.tune --compile [--arch 90] [OP or SHAPE ...]     # fill Triton's cache on disk; needs no GPU

From the repository root, with PYTHONPATH=.:kernels where the packages are not installed. Candidates are compiled in
several processes first; then each is checked against the result of the default and timed alone, its input not in L2.
What takes more shared memory than the GPU has, does not compile, or is not reached in time is counted and left out.
"""

import argparse
import gc
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from bench.tuning import report
from bench.tuning.choices import Choice, choices
from bench.tuning.shapes import DTYPES, Place, named
from sr_engine.atomic import atomic_write

COMPILING = 0.6  # of the time, at most


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="OP or SHAPE", help="default: all")
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument("--seconds", type=float, default=480, help="for everything; most used shapes come first")
    parser.add_argument("--processes", type=int, default=14, help="that compile at a time")
    parser.add_argument("--json", type=Path, help="written after each kernel")
    parser.add_argument("--list", action="store_true", help="say what would be tried, on any machine")
    parser.add_argument("--compile", action="store_true", help="compile all, time nothing, on any machine")
    parser.add_argument("--arch", type=int, default=90, help="of --list and --compile: compute capability times 10")
    given = parser.parse_args(argv)
    try:
        shapes = named(given.names)
    except ValueError as error:
        parser.error(str(error))
    if min(given.seconds, given.processes) <= 0:
        parser.error("--seconds and --processes must be more than 0")
    here = not (given.list or given.compile)
    if here and not torch.cuda.is_available():
        parser.error("needs a CUDA device: it times kernels on the GPU that you have; --list and --compile do without")
    try:
        import triton  # noqa: F401
    except ImportError:
        parser.error("needs triton: without it there is nothing to tune")
    arch = given.arch
    if here:
        major, minor = torch.cuda.get_device_capability()
        arch = 10 * major + minor
    place = Place("meta", DTYPES[given.dtype], arch)
    found = [choice for shape in shapes for choice in choices(shape, place)]
    if given.list:
        show(found)
        return 0
    end = time.monotonic() + given.seconds
    deadline = end if given.compile else end - (1 - COMPILING) * given.seconds
    ready, skipped = compiled(found, place, given.processes, deadline)
    if given.compile:
        return 0
    return sweep(found, ready, skipped, Place("cuda", place.dtype, arch), end, given)


def show(found: list[Choice]) -> None:
    for choice in found:
        print(f"{choice.label}  class {choice.group}  {len(choice.candidates)} candidates beside {choice.default}")
    print(f"{len(found)} kernels of shapes, {sum(len(choice.candidates) for choice in found)} candidates")


def compiled(
    found: list[Choice], place: Place, processes: int, deadline: float
) -> tuple[dict[Choice, list[Any]], dict[Choice, Counter[str]]]:
    """The candidates of each choice that a GPU can be asked to run, and how many are left out for what reason."""
    from bench.tuning.compiling import compile_all, tasks_of

    start, most = time.monotonic(), shared_memory()
    tasks = tasks_of(found, place)
    total = sum(len(choice.candidates) for choice in found)
    print(f"compiling {len(tasks)} kernels for {total} candidates in {processes} processes", flush=True)
    ready: dict[Choice, list[Any]] = {choice: [] for choice in found}
    skipped = {choice: Counter({"not compiled in time": len(choice.candidates)}) for choice in found}
    done, reasons = 0, Counter[str]()
    for outcome in compile_all(tasks, place, processes, deadline):
        done += 1
        why = "do not compile" if outcome.error else "take too much shared memory" if outcome.shared > most else None
        reasons.update([outcome.error] if outcome.error else [])
        for choice, config in tasks[outcome.task]:
            if config != choice.default:
                skipped[choice].subtract(["not compiled in time"])
                skipped[choice].update([why] if why else [])
                ready[choice] += [] if why else [config]
    print(f"compiled {done} of {len(tasks)} in {time.monotonic() - start:.0f} s", flush=True)
    for error, count in reasons.most_common(5):
        print(f"  {count} do not compile: {error}")
    order = {choice: {config: i for i, config in enumerate(choice.candidates)} for choice in found}
    for choice, configs in ready.items():
        configs.sort(key=order[choice].__getitem__)
    return ready, {choice: +counts for choice, counts in skipped.items()}


def shared_memory() -> float:
    """Bytes that a program may have on this GPU; without one there is no limit."""
    if not torch.cuda.is_available():
        return float("inf")
    return getattr(torch.cuda.get_device_properties(0), "shared_memory_per_block_optin", float("inf"))


def sweep(
    found: list[Choice],
    ready: dict[Choice, list[Any]],
    skipped: dict[Choice, Counter[str]],
    place: Place,
    end: float,
    given: argparse.Namespace,
) -> int:
    """Time all choices, print and keep each at once; 1 if the GPU did not survive one of them."""
    from bench.tuning.timing import fatal, measure

    measured, passes, shape, failure = [], {}, None, None
    for number, choice in enumerate(found):
        left = end - time.monotonic()
        if left <= 0:
            print(f"no time left for {len(found) - number} of {len(found)} kernels")
            break
        try:
            if choice.shape != shape:
                passes = {}
                gc.collect()
                torch.cuda.empty_cache()
                shape, passes = choice.shape, choice.shape.at(place)
            one = measure(choice, passes, place, ready[choice], left / (len(found) - number))
        except RuntimeError as error:
            failure = f"{choice.label}: {str(error).partition(chr(10))[0]}"
            print(f"FAILED {failure}", flush=True)
            if fatal(error):
                break
            continue
        one.skipped |= skipped[choice]
        measured.append(one)
        print("\n".join(report.lines(one)), flush=True)
        if given.json:
            write(given.json, given, measured)
    proposed = report.proposal(measured)
    print(f"\nproposed entries, where the default is more than {100 * report.MOST_OFF:.0f} % off the best:")
    print(proposed or "none")
    return int(failure is not None)


def write(path: Path, given: argparse.Namespace, measured: list[Any]) -> None:
    """All that was measured so far; a run that is stopped meanwhile leaves the file as it was."""
    from bench import machine

    commit, dirty = machine.commit()
    content = {
        "schema": 1,
        "machine": machine.fingerprint("cuda"),
        "versions": machine.versions(),
        "commit": commit,
        "dirty": dirty,
        "dtype": given.dtype,
        "classes": [one.record() for one in measured],
        "proposed": report.proposal(measured),
    }
    with atomic_write(path) as file:
        file.write_text(json.dumps(content, default=str), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
