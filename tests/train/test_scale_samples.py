"""No sample is seen twice in an epoch, by no two processes and not after the run goes on with another number of them.

Samples are numbered, and number i is a random patch that depends on i and the seed alone. An epoch is as many numbers
as there are pictures (`training.curriculum`); a picture may be drawn more than once in it, at different places.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from sr_engine.config.schema import Typed
from sr_engine.data import TrainStream, build_dataset, train_loader
from sr_engine.data.stream import Sample
from sr_engine.train.distributed import World
from sr_engine.train.session import Session

BATCH = 12


class Watched(TrainStream):
    """Notes which samples are taken."""

    seen: list[int]

    def __getitem__(self, index: int) -> Sample:
        self.seen.append(index)
        return super().__getitem__(index)


@pytest.fixture
def stream(pictures: Path) -> Watched:
    data = Typed(type="folder", arguments={"path": str(pictures), "workers": 0})
    watched = Watched(build_dataset(data, scale=2, patch_size=12, role="train"), scale=2, patch_size=12, seed=0)
    watched.seen = []
    return watched


def _seen(stream: Watched, ranks: int, first: int, count: int) -> list[int]:
    """Samples in `count` batches of all ranks."""
    found: list[int] = []
    for rank in range(ranks):
        own = copy.copy(stream)
        own.seen = []
        size = BATCH // ranks
        with train_loader(own, batch_size=size, rank=rank, world_size=ranks, start_batch=first) as loader:
            for _ in range(count):
                next(loader)
        found += own.seen[: count * size]  # the thread has prepared more
    return found


def test_all_ranks_together_take_each_sample_once_also_when_their_number_changes(stream):
    taken = _seen(stream, 2, 0, 3) + _seen(stream, 1, 3, 2) + _seen(stream, 4, 5, 3) + _seen(stream, 3, 8, 2)
    assert len(taken) == len(set(taken)) == 10 * BATCH
    assert sorted(taken) == list(range(10 * BATCH))


def test_an_epoch_of_two_ranks_is_that_of_one(stream):
    def batches(ranks: int) -> list[torch.Tensor]:
        loaders = [
            train_loader(stream, batch_size=BATCH // ranks, rank=rank, world_size=ranks) for rank in range(ranks)
        ]
        found = [torch.cat([next(loader).hr for loader in loaders]) for _ in range(3)]
        for loader in loaders:
            loader.close()
        return found

    assert all(torch.equal(a, b) for a, b in zip(batches(1), batches(2), strict=True))


@pytest.mark.parametrize(("size", "batches"), [(4, 6), (8, 3), (6, 4), (16, 2)])
def test_another_batch_size_continues_after_the_samples_that_were_taken(make_config, size, batches):
    world = World(torch.device("cpu"))
    session = Session(make_config(), world)
    session.iteration = session.batches = 6  # of 4
    state: Any = session.state_dict()
    again = Session(make_config(f"training.batch_size={size}"), world, state)
    assert again.batches == batches  # of `size`, all of whose samples are taken or left over
