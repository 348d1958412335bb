"""The pictures of a manifest upscaled by a Ray cluster: Ray Data hands groups of pictures to a pool of workers.

A worker decodes, upscales and encodes a picture by itself. Splitting this into stages would send every picture through
Ray's object store, and between machines through the network: 100 MB for the plain samples of one 8K result that is a
few MB as a file. As with torchrun, several workers share a GPU so that some decode and encode while others compute.

Ray Data starts an actor that was killed anew and repeats its task. What that task had done is known from the part of
the result manifest that the actor writes, which keeps its name: so nothing is done twice but the picture it died at,
and a picture at which several died is given up (`attempt.MAX_DEATHS`), where Ray alone would repeat for ever.
"""

import importlib.util
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from sr_engine.atomic import atomic_write, remove_leftovers
from sr_engine.errors import EngineError
from sr_engine.infer.attempt import Known, Rules, Work, attempt
from sr_engine.infer.manifest import Entry, Manifest
from sr_engine.infer.records import Record, RecordWriter, Summary, merge, parts_folder
from sr_engine.infer.shards import OnRecord, remove_parts

_GROUP = 32  # pictures of a task at most: a task costs about a millisecond, and the list of tasks memory
_GROUPS = 100  # for each worker, if there are pictures enough, so that all end at about the same time
_BLOCKS = 10_000
_STORE = 128 * 2**20  # bytes; only names and outcomes pass through it


def check_ray() -> None:
    """Find out whether Ray is there.

    Raises:
        EngineError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        raise EngineError("Ray is not installed: pip install 'sr-engine[ray]', or share the work with torchrun.")


def upscale_on_ray(
    manifest: Manifest,
    results: Path,
    make_work: Callable[[], Work],
    rules: Rules,
    on_record: OnRecord = lambda _: None,
    *,
    address: str | None = None,
    workers: int | None = None,
    gpus: bool = True,
) -> Summary:
    """Upscale what is missing and make one file of the results; started again it goes on where it stopped.

    Args:
        manifest, results: with absolute paths, which every machine of the cluster has.
        make_work: called in each worker; must be picklable, and what it refers to installed on every machine.
        on_record: called with each outcome, here.
        address: of a running cluster ("auto", ray://host:10001); None = start Ray on this machine, for this run.
        workers: processes; None = one for each GPU of the cluster, without GPUs one for each core.
        gpus: whether workers may have GPUs.

    Raises:
        EngineError: Ray is not installed, no cluster is at `address`, it has no room for the workers, or one of them
            stopped with an error that is not a picture's.
    """
    check_ray()
    with RecordWriter(parts_folder(results) / "driver.jsonl") as writer, Known(results, at_work=False) as known:
        missing = _missing(manifest, rules, known, writer, on_record)
        todo = parts_folder(results) / "todo.list"
        with atomic_write(todo) as temporary, temporary.open("w", encoding="utf-8") as file:
            count = sum(1 for entry in missing if file.write(json.dumps(entry) + "\n"))
    if count:
        with _ray(address, workers) as ray:
            number, share = _pool(ray, workers, gpus)
            groups = _groups(todo, max(1, min(_GROUP, count // (number * _GROUPS))))
            settings = _Settings(replace(manifest, name=str), results, make_work, rules)
            for record in _outcomes(ray, groups, settings, number, share):
                on_record(record)
    summary = merge(manifest, results, unrecorded=lambda entry: rules.found(manifest, entry))
    remove_leftovers({manifest.target(entry).parent for entry in manifest}, others=False)
    todo.unlink()
    remove_parts(results)
    return summary


@dataclass(frozen=True)
class _Settings:
    """What a worker is made from."""

    manifest: Manifest
    results: Path
    make_work: Callable[[], Work]
    rules: Rules


class _Worker:
    """An actor of Ray Data's pool; made anew, under the same id, when its process was killed."""

    def __init__(self, settings: _Settings) -> None:
        self.settings = settings
        actor = import_module("ray").get_runtime_context().get_actor_id()
        part = f"ray-{actor}.jsonl"
        self.name = f"process {os.getpid()} on {socket.gethostname()}"
        self.known = Known(settings.results, at_work=True, own=part)
        self.writer = RecordWriter(parts_folder(settings.results) / part)
        self.work = settings.make_work()

    def __call__(self, group: dict[str, Any]) -> dict[str, Any]:
        """A group of pictures by its place in the list -> their outcomes."""
        with (parts_folder(self.settings.results) / "todo.list").open("rb") as file:
            file.seek(group["offset"])
            entries = [Entry(*json.loads(file.readline())) for _ in range(group["count"])]
        records = [record for entry in entries if (record := self._do(entry)) is not None]
        return {"records": json.dumps([asdict(record) for record in records])}

    def _do(self, entry: Entry) -> Record | None:
        settings = self.settings
        outcome = self.known.settled(settings.rules, settings.manifest, entry)
        if outcome is None:
            scale = settings.rules.scale
            return attempt(settings.manifest, entry, self.work, self.writer, scale=scale, worker=self.name)
        if isinstance(outcome, Record):
            outcome = replace(outcome, worker=self.name)
            self.writer.finished(outcome)
            return outcome
        return None  # the same task did it before its process was killed


def _missing(
    manifest: Manifest, rules: Rules, known: Known, writer: RecordWriter, on_record: OnRecord
) -> Iterator[Entry]:
    """What is to be done; what is settled without work is recorded."""
    for entry in manifest:
        outcome = known.settled(rules, manifest, entry)
        if isinstance(outcome, Record):
            writer.finished(outcome)
            on_record(outcome)
        elif outcome is None:
            yield entry


def _groups(todo: Path, size: int) -> list[dict[str, int]]:
    """Where in the list each group of `size` lines starts: all that the driver keeps and sends."""
    groups: list[dict[str, int]] = []
    offset = 0
    with todo.open("rb") as file:
        for number, line in enumerate(file):
            if number % size == 0:
                groups.append({"offset": offset, "count": 0})
            groups[-1]["count"] += 1
            offset += len(line)
    return groups


def _pool(ray: Any, workers: int | None, gpus: bool) -> tuple[int, float]:
    """How many workers, and the share of a GPU that each gets."""
    there = ray.cluster_resources()
    cards = int(there.get("GPU", 0)) if gpus else 0
    cores = int(there.get("CPU", 0))
    number = workers or cards or cores
    if number > cores:
        raise EngineError(f"{number} workers need a core each, and Ray has {cores}: pass --workers {max(cores, 1)}.")
    # Shares must fit on whole cards: 3 workers on 2 cards are two on one and one on the other.
    return number, 1 / -(-number // cards) if cards else 0.0


def _outcomes(
    ray: Any, groups: list[dict[str, int]], settings: _Settings, workers: int, share: float
) -> Iterator[Record]:
    pool = ray.data.ActorPoolStrategy(min_size=workers, max_size=workers)
    dataset = ray.data.from_items(groups, override_num_blocks=min(len(groups), _BLOCKS))
    done = dataset.map(_Worker, fn_constructor_args=(settings,), compute=pool, num_cpus=1, num_gpus=share or None)
    try:
        for row in done.iter_rows():
            yield from (Record(**content) for content in json.loads(row["records"]))
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        said = str(cause).strip().splitlines()[-1]
        raise EngineError(
            f"a worker of Ray stopped ({said}): what is done stays done, start again to go on."
        ) from error


@contextmanager
def _ray(address: str | None, workers: int | None) -> Iterator[Any]:
    """Ray, connected; what was started here is ended."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = import_module("ray")
    data = import_module("ray.data")
    started = not ray.is_initialized()
    if started:
        local: dict[str, Any] = {"num_cpus": workers or os.cpu_count(), "object_store_memory": _STORE}
        where: dict[str, Any] = {"include_dashboard": False, **local} if address is None else {"address": address}
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            said = str(error).strip().splitlines()[0]
            raise EngineError(f"Ray at {address or 'this machine'} cannot be used: {said}.") from error
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()
