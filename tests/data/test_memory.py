"""Patches cut in memory are those of the stream, bit for bit, whatever the picture, the turn and the place."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sr_engine.data import TrainStream, build_dataset, train_loader
from sr_engine.data import memory as memory_module
from sr_engine.data.bicubic import bicubic_down
from sr_engine.data.images import write_image
from sr_engine.data.memory import PatchMemory
from sr_engine.data.places import PlaceDraw
from sr_engine.errors import DataError

RNG = np.random.default_rng(0)
P = 8


def pictures(folder: Path, *sizes: tuple[int, int]) -> Path:
    for k, (height, width) in enumerate(sizes):
        write_image(folder / f"{k}.png", RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return folder


def stream(folder: Path, scale: int, **arguments: Any) -> TrainStream:
    typed = ("folder", {"path": str(folder), **arguments})
    dataset = build_dataset(typed, scale=scale, patch_size=P, role="train")
    return TrainStream(dataset, scale=scale, patch_size=P, seed=3)


def same(one: TrainStream, two: TrainStream, *, batches: int = 4, batch_size: int = 16, **arguments: Any) -> None:
    with (
        train_loader(one, batch_size=batch_size, workers=0, **arguments) as first,
        train_loader(two, batch_size=batch_size, workers=0, **arguments) as second,
    ):
        for _ in range(batches):
            a, b = next(first), next(second)
            assert a.index == b.index
            assert a.names == b.names
            assert torch.equal(a.lr, b.lr)
            assert torch.equal(a.hr, b.hr)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_batches_equal_those_of_the_stream(tmp_path: Path, scale: int) -> None:
    """All turns and phases, borders, sizes that are no multiple of the scale, a picture of one patch."""
    folder = pictures(
        tmp_path, (P * scale, P * scale), (P * scale + 5, P * scale + 2), (3 * P * scale + 1, 2 * P * scale)
    )
    made = stream(folder, scale, in_memory=True)
    places = made.draw(0, 64) if made.draw is not None else pytest.fail("not drawn")
    assert len(set(places.turn.tolist())) == 8
    assert len({(t % scale, x % scale) for t, x in zip(places.top, places.left, strict=True)}) == scale**2
    same(made, stream(folder, scale))


def test_places_of_the_pictures_end_are_reached(tmp_path: Path) -> None:
    folder = pictures(tmp_path, (2 * P + 3, 2 * P + 5))
    for hard in (0.0, 1.0):
        draw = stream(folder, 2, hard_sampling=hard).draw
        assert draw is not None
        places = draw(0, 500)
        assert (places.top.min(), places.top.max()) == (0, 3)
        assert (places.left.min(), places.left.max()) == (0, 5)


def test_ready_made_pairs_stay_aligned(tmp_path: Path) -> None:
    for name, size in (("a", (51, 60, 3)), ("b", (40, 47, 3))):
        hr = RNG.integers(0, 256, size, dtype=np.uint8)
        write_image(tmp_path / "hr" / f"{name}.png", hr)
        write_image(tmp_path / "lr" / f"{name}.png", bicubic_down(hr, 2) ^ 1)  # not what the engine would make itself
    both = []
    for in_memory in (True, False):
        arguments = {"hr": str(tmp_path / "hr"), "lr": str(tmp_path / "lr"), "in_memory": in_memory}
        dataset = build_dataset(("paired", arguments), scale=2, patch_size=P, role="train")
        both.append(TrainStream(dataset, scale=2, patch_size=P, seed=0))
    same(*both)


def test_batches_depend_on_their_number_alone(tmp_path: Path) -> None:
    """Ranks and a resume, across the range whose places are drawn together; the batch size does not matter."""
    folder = pictures(tmp_path, (40, 50), (30, 60))
    one = stream(folder, 2, in_memory=True)
    with train_loader(one, batch_size=4) as loader:
        whole = [next(loader) for _ in range(140)]
    with train_loader(one, batch_size=4, start_batch=62) as loader:
        for expected in whole[62:70]:
            assert torch.equal(next(loader).hr, expected.hr)
    with train_loader(one, batch_size=2, rank=1, world_size=2) as loader:
        for expected in whole[:70]:
            assert torch.equal(next(loader).hr, expected.hr[2:])
    assert whole[0].hr.is_contiguous(memory_format=torch.channels_last)
    same(one, stream(folder, 2), start_batch=200, rank=1, world_size=3)


def test_places_do_not_depend_on_what_is_drawn_together(tmp_path: Path) -> None:
    draw = stream(pictures(tmp_path, (40, 50), (30, 60)), 2).draw
    assert draw is not None
    whole = draw(0, 50)
    for k in (0, 1, 7, 49):
        assert draw(k, 1).first() == tuple(int(column[k]) for column in whole)
    other = stream(tmp_path, 2).draw
    assert other is not None
    other.seed = 4
    assert not np.array_equal(other(0, 50).top, whole.top)


def test_hard_patches_are_drawn_by_their_detail() -> None:
    """Cells of two pictures: their share is area x detail, and the rest is uniform by area."""
    details = [np.array([[1.0, 3.0]], np.float32), np.array([[2.0], [0.0]], np.float32)]
    arguments: dict[str, Any] = {
        "areas": np.array([1.0, 2.0]),
        "sizes": [(8, 10), (10, 8)],
        "details": details,
        "aligned": [False, False],
        "augment": True,
        "scale": 1,
        "patch_size": P,
        "seed": 0,
    }
    places = PlaceDraw(hard=1.0, **arguments)(0, 20000)
    cells = Counter(zip(places.picture.tolist(), (places.top // 2).tolist(), (places.left // 2).tolist(), strict=True))
    # Picture 0: areas 1 x (1, 3) / 2 cells; picture 1: 2 x (2, 0) / 2 cells; a step of 2 pixels is a cell.
    expected = {(0, 0, 0): 0.5, (0, 0, 1): 1.5, (1, 0, 0): 2.0}
    assert set(cells) <= set(expected)
    for cell, weight in expected.items():
        assert cells[cell] / 20000 == pytest.approx(weight / 4.0, abs=0.015)
    mixed = PlaceDraw(hard=0.25, **arguments)(0, 20000)
    assert (mixed.picture == 1).mean() == pytest.approx(0.25 * 0.5 + 0.75 * 2 / 3, abs=0.015)
    assert [(mixed.turn == turn).mean() for turn in range(8)] == pytest.approx([1 / 8] * 8, abs=0.015)


def test_refusals_name_the_way_out(tmp_path: Path) -> None:
    folder = pictures(tmp_path, (700, 600))
    for kind in ("photo", "real_world"):
        with pytest.raises(DataError, match=f"the degradation {kind} is drawn anew for every patch: remove in_memory"):
            stream(folder, 2, in_memory=True, degradation=kind)
    with pytest.raises(DataError, match=r"all pictures decoded, 2 MiB, but cache_mb is 1: raise it"):
        stream(folder, 2, in_memory=True, cache_mb=1)
    val = build_dataset(("folder", {"path": str(folder), "in_memory": True, "cache_mb": 0}), scale=2, role="val")
    assert not val.in_memory, "whole pictures are read one by one"


def test_a_full_gpu_leaves_the_pictures_in_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 2000))
    gpu = torch.device("cuda", 0)
    assert memory_module.home(gpu, 400) == gpu
    assert memory_module.home(gpu, 600).type == "cpu"


def test_memory_is_six_bytes_a_pixel(tmp_path: Path) -> None:
    made = stream(pictures(tmp_path, (64, 64)), 4)
    memory = PatchMemory(made.dataset, scale=4, patch_size=P, device=torch.device("cpu"))
    # Phases other than the first lose the row or column that no longer fills a block.
    assert 5 * 64 * 64 < memory.bytes <= 6 * 64 * 64


def test_patches_travel_to_a_gpu_from_pinned_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stream(pictures(tmp_path, (40, 40)), 2)
    memory = PatchMemory(made.dataset, scale=2, patch_size=P, device=torch.device("cpu"))
    table = memory.table(made.draw(0, 3)) if made.draw is not None else pytest.fail("not drawn")
    expected = memory.cut(table)
    pinned: list[torch.Tensor] = []
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda patches: pinned.append(patches.clone()) or pinned[-1])
    monkeypatch.setattr(torch.Tensor, "to", lambda patches, *_, **__: sent.append(patches) or patches)
    memory.device = torch.device("cuda", 0)
    found = memory.cut(table)
    assert [patches.dtype for patches in sent] == [torch.uint8] * 2
    assert all(a is b for a, b in zip(pinned, sent, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.gpu
def test_pictures_in_main_memory_give_a_gpu_the_same_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stream(pictures(tmp_path, (40, 50), (30, 60)), 2)
    places = made.draw(0, 16) if made.draw is not None else pytest.fail("not drawn")
    arguments: dict[str, Any] = {"scale": 2, "patch_size": P, "device": torch.device("cuda", 0)}
    there = PatchMemory(made.dataset, **arguments)
    monkeypatch.setattr(memory_module, "_home", lambda *_: torch.device("cpu"))
    here = PatchMemory(made.dataset, **arguments)
    for a, b in zip(here.cut(here.table(places)), there.cut(there.table(places)), strict=True):
        assert a.is_cuda
        assert torch.equal(a, b)


def test_a_ready_made_lr_is_kept_once(tmp_path: Path) -> None:
    hr = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_image(tmp_path / "hr" / "a.png", hr)
    write_image(tmp_path / "lr" / "a.png", bicubic_down(hr, 4))
    arguments = {"hr": str(tmp_path / "hr"), "lr": str(tmp_path / "lr"), "in_memory": True}
    dataset = build_dataset(("paired", arguments), scale=4, patch_size=P, role="train")
    memory = PatchMemory(dataset, scale=4, patch_size=P, device=torch.device("cpu"))
    assert memory.bytes == 3 * 64 * 64 + 3 * 16 * 16
