"""Checkpoints: whole or not there, safe to read, and the random generators in them."""

import errno
import os
import random

import numpy as np
import pytest
import torch

from sr_engine.errors import CheckpointError
from sr_engine.train.checkpoint import CheckpointFolder, load_checkpoint, save_checkpoint
from sr_engine.train.rng import seed_everything, set_rng_state
from tests.train.states import state


def test_state_comes_back_equal(tmp_path):
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, state(2.5))
    loaded = load_checkpoint(path)
    assert loaded["iteration"] == 3
    assert torch.equal(loaded["generator"]["net"]["weight"], torch.full((64, 64), 2.5))


def test_random_generators_continue_where_they_were(tmp_path):
    seed_everything(7, rank=1)
    np.random.standard_normal()  # leaves a cached second value behind
    save_checkpoint(tmp_path / "a.ckpt", state())
    draw = lambda: (random.random(), np.random.standard_normal(), np.random.random(), torch.rand(3).tolist())  # noqa: E731
    expected = draw()
    seed_everything(8, rank=0)
    assert draw() != expected
    set_rng_state(load_checkpoint(tmp_path / "a.ckpt")["rng"][0])
    assert draw() == expected


def test_only_the_last_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep_last=2)
    for iteration in (5, 10, 99_999_999, 100_000_000):
        folder.save(iteration, state())
    assert [p.name for p in folder.existing()] == ["100000000.ckpt", "99999999.ckpt"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named_and_the_older_one_used(tmp_path, caplog, share):
    folder = CheckpointFolder(tmp_path, keep_last=3)
    folder.save(1, state(1.0))
    newest = folder.save(2, state(2.0))
    newest.write_bytes(newest.read_bytes()[: int(share * newest.stat().st_size)])
    loaded = folder.load_newest()
    assert loaded is not None
    assert loaded[0] == folder.path(1)
    assert "00000002.ckpt is truncated or damaged" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02.",
        b"\x80\x02h\x00.",
        b"\x80\x02}q\x00u.",
        b"\x80\x02]K\x01s.",
    ],
)
def test_a_pickle_that_is_none_is_damaged(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match="is truncated or damaged"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_checkpoints_that_cannot_be_read_do_not_push_out_those_that_can(tmp_path):
    folder = CheckpointFolder(tmp_path, keep_last=1)
    folder.save(1, state(1.0))
    for iteration in (3, 4):
        folder.path(iteration).write_bytes(b"damaged")
    folder.save(2, state(2.0))
    loaded = folder.load_newest()
    assert loaded is not None
    assert loaded[0] == folder.path(2)
    assert not folder.path(1).exists()


def test_when_none_can_be_read_the_run_does_not_start_over(tmp_path):
    folder = CheckpointFolder(tmp_path)
    assert folder.load_newest() is None
    folder.save(1, state()).write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        folder.load_newest()


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "attacked"),)

    torch.save({"format": 1, "net": Attack()}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        load_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "attacked").exists()


def test_other_files_are_refused(tmp_path):
    torch.save({"params": {}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_checkpoint(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "b.ckpt")


@pytest.mark.parametrize("where", ["torch.save", "os.fsync", "writer"])
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch, where):
    folder = CheckpointFolder(tmp_path, keep_last=1)
    folder.save(1, state(1.0))

    def full(*_args, **_kwargs):
        if where == "writer":  # what torch's zip writer says on a full disk
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 128 vs 22")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.save" if where == "writer" else where, full)
    with pytest.raises(CheckpointError, match=r"00000002\.ckpt could not be written"):
        folder.save(2, state(2.0))
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["00000001.ckpt"]
    loaded = folder.load_newest()
    assert loaded is not None
    assert torch.equal(loaded[1]["generator"]["net"]["weight"], torch.full((64, 64), 1.0))
