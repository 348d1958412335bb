"""The pictures of a manifest shared among processes that know nothing of each other but their number and a file system.

Process r of n takes every n-th picture, from the r-th on. Whoever has finished his share goes once through the whole
manifest and does what nobody has done yet: large pictures, slow machines and processes that are no more leave no
gap, and nobody waits for anybody. At the end of a run some pictures may so be done twice (as MapReduce's backup tasks
are, Dean and Ghemawat 2004, section 3.6): the second result replaces an equal first one, and one record counts.
Claims in files were considered: a claim of a process that died has to be told from one that is at work, by the clocks
of several machines, and every picture costs two more operations of the file system.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from sr_engine.atomic import remove_leftovers
from sr_engine.errors import EngineError
from sr_engine.infer.attempt import Known, Rules, Work, attempt
from sr_engine.infer.manifest import Entry, Manifest
from sr_engine.infer.records import Record, RecordWriter, Summary, merge, parts_folder

OnRecord = Callable[[Record], None]


@dataclass(frozen=True)
class Shard:
    """One of `size` processes. local_rank: among those of this machine. restart: how often all were started anew."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    restart: int = 0

    @property
    def part(self) -> str:
        """The name of the part of the results that this process writes; the same after a restart."""
        return f"rank-{self.rank:05}.jsonl"

    @property
    def worker(self) -> str:
        """What records call this process."""
        return f"rank {self.rank} on {socket.gethostname()}"

    def device(self, asked: str) -> str:
        """Where this process computes: `auto` and `cuda` are the machine's GPUs in turn, so that there may be more
        processes than GPUs, to decode and encode while others compute."""
        import torch

        count = torch.cuda.device_count() if asked in ("auto", "cuda") else 0
        return f"cuda:{self.local_rank % count}" if count else asked


def shard_from(environment: Mapping[str, str] = os.environ) -> Shard:
    """This process among those that torchrun started, by RANK, WORLD_SIZE, LOCAL_RANK; else it is the only one.

    Raises:
        EngineError: the variables are incomplete or no such numbers.
    """
    if "WORLD_SIZE" not in environment and "RANK" not in environment:
        return Shard()
    try:
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        local_rank = int(environment.get("LOCAL_RANK", rank))
        restart = int(environment.get("TORCHELASTIC_RESTART_COUNT", 0))
    except KeyError as missing:
        raise EngineError(f"{missing} is not set, though RANK or WORLD_SIZE is: start with torchrun.") from None
    except ValueError as error:
        raise EngineError(f"RANK, WORLD_SIZE or LOCAL_RANK is no number ({error}): start with torchrun.") from None
    if not (0 <= rank < size and local_rank >= 0):
        raise EngineError(f"RANK {rank} of WORLD_SIZE {size} does not exist: start with torchrun.")
    return Shard(rank, size, local_rank, restart)


def upscale_share(
    manifest: Manifest, results: Path, work: Work, rules: Rules, shard: Shard, on_record: OnRecord = lambda _: None
) -> Summary:
    """Do this process's share, then what is left of the others', then make one file of the results.

    Whoever is through finds every picture done, at least by another, so that each merges and all merge the same;
    the parts stay, as others may still write to theirs, and are removed when there is one process only.

    Args:
        results: the result manifest, the same for all processes, on a file system they share.
        on_record: called with each outcome of this process.

    Raises:
        EngineError: the manifest was changed, or what stands at `results` is no result manifest.
        Exception: whatever stops a process: the next one goes on where it stopped.
    """
    rules = replace(rules, retry=rules.retry and shard.restart == 0)
    with (
        RecordWriter(parts_folder(results) / shard.part) as writer,
        Known(results, at_work=shard.size > 1, own=shard.part) as known,
    ):
        for entry in islice(manifest, shard.rank, None, shard.size):
            outcome = known.settled(rules, manifest, entry)
            if isinstance(outcome, Record):
                outcome = replace(outcome, worker=shard.worker)
                writer.finished(outcome)
                on_record(outcome)
            elif outcome is None:
                on_record(attempt(manifest, entry, work, writer, scale=rules.scale, worker=shard.worker))
        known.refresh()
        for entry in _left_over(manifest, replace(rules, retry=False), shard, known):
            on_record(attempt(manifest, entry, work, writer, scale=rules.scale, worker=shard.worker))
    summary = merge(manifest, results, unrecorded=lambda entry: rules.found(manifest, entry))
    remove_leftovers({manifest.target(entry).parent for entry in manifest}, others=False)
    if shard.size == 1:
        remove_parts(results)
    return summary


def _left_over(manifest: Manifest, rules: Rules, shard: Shard, known: Known) -> Iterator[Entry]:
    """What nobody has done; each process starts at another place, so that they seldom meet."""
    start = manifest.count * (2 * shard.rank + 1) // (2 * shard.size)
    for entries in (islice(manifest, start, None), islice(manifest, start)) if shard.size > 1 else ():
        for entry in entries:
            last = known.records.of(entry.target).last
            # Not looked for on the disk: that is done by whose share it is.
            recorded = last is not None and (last.status == "failed" or rules.fits(last))
            if not recorded and known.settled(rules, manifest, entry) is None:
                yield entry


def remove_parts(results: Path) -> None:
    """Remove the parts that were merged, when nobody writes to them any more."""
    folder = parts_folder(results)
    for part in folder.glob("*.jsonl"):
        part.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """SIGTERM (torchrun's, when another process failed) ends this process as an exception does, so that no temporary
    files are left."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
