"""Batches: the same whatever prepares them, and a clean end."""

import gc
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sr_engine.data import Batch, TrainStream, build_dataset, train_loader
from sr_engine.data.images import write_image
from sr_engine.data.loader import _default_workers
from sr_engine.data.pictures import PictureCache, decode
from sr_engine.errors import ImageFileError

RNG = np.random.default_rng(0)


@pytest.fixture
def stream(tmp_path: Path) -> TrainStream:
    return make(tmp_path)


def make(folder: Path, **arguments: object) -> TrainStream:
    for k in range(3):
        write_image(folder / f"{k}.png", RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    dataset = build_dataset(("folder", {"path": str(folder), **arguments}), scale=2, patch_size=8, role="train")
    return TrainStream(dataset, scale=2, patch_size=8, seed=0)


def take(stream: TrainStream, n: int, workers: int = 0, **arguments: Any) -> list[Batch]:
    with train_loader(stream, batch_size=4, workers=workers, **arguments) as batches:
        return [next(batches) for _ in range(n)]


def test_batches_hold_the_samples_of_the_stream(stream: TrainStream) -> None:
    for batch in take(stream, 3):
        samples = [stream[4 * batch.index + k] for k in range(4)]
        assert batch.lr.dtype == torch.float32
        assert torch.equal(batch.lr, torch.from_numpy(np.stack([s.lr for s in samples])).float() / 255)
        assert torch.equal(batch.hr, torch.from_numpy(np.stack([s.hr for s in samples])).float() / 255)
        assert batch.names == [s.name for s in samples]


def test_resume_and_ranks_divide_one_sequence(stream: TrainStream) -> None:
    whole = take(stream, 6)
    assert [batch.index for batch in whole] == list(range(6))
    for resumed, batch in zip(take(stream, 2, start_batch=4), whole[4:], strict=True):
        assert resumed.index == batch.index
        assert torch.equal(resumed.hr, batch.hr)
    for rank in range(2):
        for k, batch in enumerate(take(stream, 3, rank=rank, world_size=2)):
            assert torch.equal(batch.hr, whole[2 * k + rank].hr)


def test_worker_processes_give_the_same_batches(stream: TrainStream) -> None:
    """Two workers, resumed, with pictures from a mapped file; nothing of them is left afterwards."""
    state = torch.get_rng_state()
    expected = take(stream, 4)
    got = take(stream, 3, workers=2, start_batch=1)
    assert [batch.index for batch in got] == [1, 2, 3]
    for batch, other in zip(got, expected[1:], strict=True):
        assert torch.equal(batch.lr, other.lr)
        assert torch.equal(batch.hr, other.hr)
        assert batch.names == other.names
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"


def test_bytes_become_the_same_floats_on_the_device(stream: TrainStream) -> None:
    with train_loader(stream, batch_size=4, workers=0, as_uint8=True) as batches:
        batch = next(batches)
    assert batch.hr.dtype == torch.uint8
    moved = batch.to("cpu", torch.channels_last)
    assert moved.hr.is_contiguous(memory_format=torch.channels_last)
    expected = take(stream, 1)[0]
    assert torch.equal(moved.hr, expected.hr)
    assert torch.equal(expected.to("cpu").hr, expected.hr), "floats pass through unscaled"


def data_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sr-engine data"]


def test_thread_ends_with_its_iterator(stream: TrainStream) -> None:
    batches = train_loader(stream, batch_size=4, workers=0)
    next(batches)
    assert data_threads()
    batches.close()
    batches.close()
    assert not data_threads()
    assert next(batches, None) is None
    abandoned = train_loader(stream, batch_size=4, workers=0)
    next(abandoned)
    del abandoned
    gc.collect()
    end = time.monotonic() + 5
    while data_threads() and time.monotonic() < end:
        time.sleep(0.05)
    assert not data_threads()


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_reaches_the_training_by_name(tmp_path: Path, workers: int) -> None:
    stream = make(tmp_path, cache_mb=0)
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(b"damaged")
    with pytest.raises(ImageFileError) as caught:
        take(stream, 3, workers=workers)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value), "one sentence, not a worker's traceback"
    assert not data_threads()


def test_damage_is_skipped_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = make(tmp_path, cache_mb=0, on_bad_file="skip")
    (tmp_path / "1.png").write_bytes(b"damaged")
    names = {name for batch in take(stream, 8) for name in batch.names}
    assert names == {"0", "2"}
    assert [record.message.count(str(tmp_path / "1.png")) for record in caplog.records] == [1]


def test_a_defect_is_not_lost_with_the_thread(stream: TrainStream, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("defect")

    monkeypatch.setattr(TrainStream, "_sample", broken)
    with pytest.raises(ZeroDivisionError, match="defect"):
        take(stream, 1)


def test_cache_forgets_and_shares(tmp_path: Path) -> None:
    pictures = make(tmp_path).dataset.pictures
    cache = PictureCache(2 * 40 * 50 * 3)
    kept = [cache.get(picture) for picture in pictures]
    assert cache.get(pictures[2]).hr is kept[2].hr
    assert cache.get(pictures[1]).hr is kept[1].hr
    assert cache.get(pictures[0]).hr is not kept[0].hr
    cache.share()
    worker = PictureCache.__new__(PictureCache)
    worker.__setstate__(cache.__getstate__())
    (tmp_path / "0.png").write_bytes(b"")
    assert np.array_equal(worker.get(pictures[0]).hr, kept[0].hr), "from the mapped file, not from the picture"
    assert np.array_equal(worker.get(pictures[2]).hr, decode(pictures[2]).hr)
    file = cache._file
    assert file is not None
    assert file.exists()
    del cache
    gc.collect()
    assert not file.exists()


def test_default_workers(stream: TrainStream, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, world_size, expected in ((2, 1, 0), (16, 1, 8), (16, 4, 0), (64, 8, 7)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert _default_workers(stream, world_size) == expected
