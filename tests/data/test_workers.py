"""Worker processes that die, hang or find no room: others take over, or one sentence says why."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sr_engine.data import BatchIterator, TrainStream, build_dataset, train_loader, workers
from sr_engine.data.images import write_image
from sr_engine.data.loader import _Batches
from sr_engine.data.stream import Sample
from sr_engine.data.workers import Workers
from sr_engine.errors import DataError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


class Spoilt(TrainStream):
    """Does something to its process when it is asked for a sample of batch 2, the second worker's first but one."""

    harm = "kill"

    def __getitem__(self, index: int) -> Sample:
        if torch.utils.data.get_worker_info() is not None and index == 8:
            if self.harm == "kill":
                time.sleep(0.5)  # for the batches before to be handed over
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.harm == "hang":
                time.sleep(60)
            else:  # a file of shared memory may not grow then
                import resource

                resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        return super().__getitem__(index)


def make(folder: Path, kind: type[TrainStream] = TrainStream) -> Any:
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        write_image(folder / f"{k}.png", pixels)
    dataset = build_dataset(("folder", {"path": str(folder)}), scale=2, patch_size=8, role="train")
    return kind(dataset, scale=2, patch_size=8, seed=0)


def pids(batches: BatchIterator) -> list[int]:
    inner: Any = batches._prepared
    assert isinstance(inner, Workers)
    return [process.pid for process in inner._processes._workers]


def test_killed_workers_are_replaced_and_no_batch_differs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = make(tmp_path)
    with train_loader(stream, batch_size=4, workers=0) as batches:
        expected = [next(batches) for _ in range(9)]
    with train_loader(stream, batch_size=4, workers=2) as batches:
        got = [next(batches)]
        victim = pids(batches)[1]
        os.kill(victim, signal.SIGKILL)
        got += [next(batches) for _ in range(8)]
        assert victim not in pids(batches)
    for one, other in zip(expected, got, strict=True):
        assert (one.index, one.names) == (other.index, other.names)
        assert torch.equal(one.lr, other.lr)
        assert torch.equal(one.hr, other.hr)
    (warning,) = [record.message for record in caplog.records]
    assert f"data worker {victim} was killed by signal SIGKILL: new workers go on with batch " in warning


@pytest.mark.slow
def test_workers_that_die_at_the_same_batch_stop_with_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_ATTEMPTS", 1)
    with train_loader(make(tmp_path, Spoilt), batch_size=4, workers=1) as batches:
        assert [next(batches).index for _ in range(2)] == [0, 1]
        with pytest.raises(DataError) as caught:
            next(batches)
    assert "was killed by signal SIGKILL; batch 2 did not come in 2 attempts" in str(caught.value)
    assert "lower datasets.train.workers" in str(caught.value)
    assert len(caplog.records) == 1


def test_workers_that_hang_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_ATTEMPTS", 0)
    stream = make(tmp_path, Spoilt)
    stream.harm = "hang"
    with train_loader(stream, batch_size=4, workers=1) as batches:
        assert [next(batches).index for _ in range(2)] == [0, 1]
        monkeypatch.setattr(workers, "_PATIENCE", 0.5)
        with pytest.raises(DataError, match=r"^data workers \d+ hung: no batch in 0.5 s; batch 2 did not come"):
            next(batches)


def test_without_shared_memory_a_sentence_says_so(tmp_path: Path) -> None:
    stream = make(tmp_path, Spoilt)
    stream.harm = "no room"
    with train_loader(stream, batch_size=4, workers=1) as batches:
        assert [next(batches).index for _ in range(2)] == [0, 1]
        with pytest.raises(DataError, match=r"^no shared memory for batch 2 of 0\.0 MiB \(.*--shm-size=8g"):
            next(batches)


def test_a_thread_that_ends_is_an_error_not_the_end_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(_Batches, "__getitem__", end)
    with (
        train_loader(make(tmp_path), batch_size=4, workers=0) as batches,
        pytest.raises(DataError, match=r"the thread that prepares batches has ended \(SystemExit"),
    ):
        next(batches)


ORPHANS = """
import json, sys
from pathlib import Path
from tests.data.test_workers import make, pids
from sr_engine.data import train_loader
if __name__ == "__main__":
    batches = train_loader(make(Path(sys.argv[1])), batch_size=4, workers=1)
    next(batches)
    print(json.dumps([str(batches._prepared._batches.stream.dataset.cache._file), *pids(batches)]), flush=True)
    sys.stdin.read()
"""


def test_workers_end_with_a_training_that_is_killed_and_the_next_one_tidies(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(ORPHANS, encoding="utf-8")
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "train.py"), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert process.stdout is not None
    file, worker = json.loads(process.stdout.readline())
    assert Path(file).exists()
    process.kill()
    process.wait()
    end = time.monotonic() + 15
    while _runs(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _runs(worker)
    assert Path(file).exists()
    make(tmp_path).dataset.cache.share()
    assert not Path(file).exists()


def _runs(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
