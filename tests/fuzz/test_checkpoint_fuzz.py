# ruff: noqa: PT017 (an error is one of two right outcomes)
"""Damaged, hostile and altered checkpoints: a run goes on from them, or an error of ours says why not."""

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sr_engine.config.load import parse_config
from sr_engine.data.images import write_image
from sr_engine.errors import CheckpointError
from sr_engine.train.checkpoint import load_checkpoint, save_checkpoint
from sr_engine.train.distributed import World
from sr_engine.train.resume import changes, find_start
from sr_engine.train.session import Session
from tests.fuzz.mutations import HUGE, VALUES, damaged, examples
from tests.fuzz.test_model_fuzz import _hostile, _pickled, _whole_pickles, resummed
from tests.train.states import state

CONFIG = """
name: fuzz
scale: 2
network_g: {{type: generator, preset: nano, width: 4, stages: 1}}
network_d: {{type: patchgan, width: 2}}
datasets: {{train: {{type: folder, path: "{pictures}"}}}}
losses: {{pixel: {{type: l1}}, gan: {{}}}}
training: {{total_iter: 9, batch_size: 1, patch_size: 8, precision: fp32, balance: {{every: 2}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def test_damaged_checkpoints(folder: Path) -> None:
    save_checkpoint(folder / "whole.ckpt", state())
    whole = [
        (folder / "whole.ckpt").read_bytes(),
        _pickled({"format": 1, **state()}, _use_new_zipfile_serialization=False),
    ]

    @examples(200)
    @given(damaged([*whole, *_whole_pickles(), *_hostile(folder / "TRACE")], head=1500).map(resummed))
    def check(content: bytes) -> None:
        (folder / "a.ckpt").write_bytes(content)
        try:
            assert isinstance(load_checkpoint(folder / "a.ckpt"), dict)
        except CheckpointError as error:
            assert str(folder / "a.ckpt") in str(error)

    check()
    assert not (folder / "TRACE").exists()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a state, the state of a random generator as one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    deeper = [] if len(path) > 1 and path[0] == "rng" else [p for key, v in inner for p in _paths(v, (*path, key))]
    return [*([path] if path else []), *deeper]


GONE = "gone"
TENSORS = st.sampled_from(
    [
        torch.zeros(3),
        torch.full((2, 2), torch.nan),
        torch.zeros(0),
        torch.zeros(1).expand(10**9),
        torch.tensor([True]),
        torch.ones(4, dtype=torch.int64),
        torch.zeros(5056, dtype=torch.uint8),
        torch.eye(2).to_sparse(),
    ]
)


def edits(whole: dict[str, Any]) -> st.SearchStrategy[list[tuple[tuple[Any, ...], Any]]]:
    """One to three places, with what is to stand there; GONE is nothing."""
    value = TENSORS | VALUES | HUGE | st.just({}) | st.just([]) | st.just(GONE)
    return st.lists(st.tuples(st.sampled_from(_paths(whole)), value), min_size=1, max_size=3)


def _edited(whole: dict[str, Any], changes_: list[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    changed = copy.deepcopy(whole)
    for path, value in changes_:
        inner = changed
        try:
            for step in path[:-1]:
                inner = inner[step]
            if value is GONE:
                del inner[path[-1]]
            else:
                inner[path[-1]] = value
        except (KeyError, IndexError, TypeError):  # gone with a place before
            continue
    return changed


def test_a_readable_checkpoint_with_anything_in_it(folder: Path) -> None:
    write_image(folder / "picture.png", np.zeros((24, 24, 3), np.uint8))
    world, config = World(torch.device("cpu")), parse_config(CONFIG.format(pictures=folder))
    session = Session(config, world)
    for learner in (session.steps.generator, session.steps.discriminator):
        assert learner is not None
        for parameter in learner.parameters:
            parameter.grad = torch.zeros_like(parameter)
        learner.step(1e-4)
    session.iteration = session.batches = 5
    session.meter.add({"pixel": torch.ones(())}, {"pixel": 1.0})
    path = folder / "run/checkpoints/00000005.ckpt"
    save_checkpoint(path, session.state_dict())
    whole = load_checkpoint(path)
    before = random.getstate()

    @examples(150)
    @given(edits(whole))
    def check(changed: list[tuple[tuple[Any, ...], Any]]) -> None:
        torch.save(_edited(whole, changed), path)
        try:
            start = find_start(folder / "new", str(path))
            assert start is not None
            changes(*start, config)
            again = Session(config, world, start[1])
            for learner in (again.steps.generator, again.steps.discriminator):
                assert learner is not None
                for parameter in learner.parameters:
                    parameter.grad = torch.zeros_like(parameter)
                learner.step(1e-4)
            again.meter.report(again.iteration, 1e-4)
        except CheckpointError as error:
            assert "\n" not in str(error)

    check()
    random.setstate(before)
