"""A teacher's outputs that are kept: at the right places, equal to those of each batch, whole, of these pictures."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sr_engine.config.schema import Config
from sr_engine.data import Batch, PictureSet, TargetMemory, TrainStream, build_dataset, train_loader
from sr_engine.errors import DataError, TrainingError
from sr_engine.train import run
from sr_engine.train.distributed import World
from sr_engine.train.session import Session
from sr_engine.train.teacher import Teacher, ensembled, turned, turned_back

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of 25x27, 16x16, 17x30 and 18x16 pixels, the patches being of 16x16."""
    folder, rng = tmp_path / "pictures", np.random.default_rng(1)
    folder.mkdir()
    for index, (height, width) in enumerate([(25, 27), (16, 16), (17, 30), (18, 16)]):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"picture{index}.png")
    return folder


def _config(make_config: Any, teacher: Path, folder: Path, *more: str) -> Config:
    return make_config(
        "network_g={type: generator, preset: nano, width: 16, stages: 1}",
        f"datasets.train.path={folder}",
        "datasets.val=null",
        f"distill={{teacher: {teacher}, cache: uint8}}",
        "training.patch_size=8",
        "training.total_iter=2",
        *more,
    )


def _stream(folder: Path, **options: Any) -> TrainStream:
    dataset = build_dataset(("folder", {"path": str(folder), **options}), scale=2, patch_size=8, role="train")
    return TrainStream(dataset, scale=2, patch_size=8, seed=3)


def _originals(dataset: PictureSet) -> list[NDArray[np.uint8]]:
    """Of even sides, as what a network of scale 2 makes."""
    pixels = [dataset.cache.get(picture).hr for picture in dataset.pictures]
    return [hr[: hr.shape[0] // 2 * 2, : hr.shape[1] // 2 * 2] for hr in pixels]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("options", [{"in_memory": True}, {}, {"hard_sampling": 0.0}], ids=["memory", "stream", "even"])
def test_patches_lie_where_those_of_the_originals_do(folder, options, ranks):
    stream = _stream(folder, **options)
    kept = _originals(stream.dataset)
    split: dict[str, Any] = {"batch_size": 5, "rank": ranks - 1, "world_size": ranks, "device": CPU}
    memory = TargetMemory(stream, kept.__getitem__, **split)
    assert stream.draw is not None
    places = stream.draw(0, 5 * ranks * 70)
    assert set(places.turn) == set(range(8))
    assert set(places.picture) == {0, 1, 2, 3}
    assert {*(places.top % 2), *(places.left % 2)} == {0}
    with train_loader(stream, **split, start_batch=60, workers=0) as loader:
        for batch in itertools.islice(loader, 10):  # over the end of a block of places
            assert torch.equal(memory.cut(batch), batch.to(CPU).hr)
            assert memory.cut(batch).is_contiguous(memory_format=torch.channels_last)


def test_a_batch_of_other_pictures_is_noticed(folder):
    stream = _stream(folder)
    memory = TargetMemory(
        stream, _originals(stream.dataset).__getitem__, batch_size=2, rank=0, world_size=1, device=CPU
    )
    lr, hr = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 16, 16)
    with pytest.raises(TrainingError, match="batch 0 holds other pictures than were drawn"):
        memory.cut(Batch(lr, hr, ["picture0", "nobody"], 0))


def test_a_turn_and_back_is_nothing_and_the_ensemble_turns_with_its_picture():
    x = torch.rand(1, 3, 5, 7)
    assert all(torch.equal(turned_back(turned(x, turn), turn), x) for turn in range(8))
    assert len({tuple(turned(x, turn).flatten().tolist()) for turn in range(8)}) == 8
    kernel = torch.rand(3, 1, 3, 3)

    def upscale(lr: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(lr, kernel, padding=1, groups=3)

    mean = torch.stack([turned_back(upscale(turned(x, turn)), turn) for turn in range(8)]).mean(0)
    torch.testing.assert_close(ensembled(upscale, x), mean)
    torch.testing.assert_close(ensembled(upscale, x, upscale(x)), mean)
    for turn in range(8):
        torch.testing.assert_close(ensembled(upscale, turned(x, turn)), turned(mean, turn))


@pytest.mark.parametrize(("form", "tolerance"), [("uint8", 0.51 / 255), ("float16", 6e-4)])
def test_kept_targets_are_those_of_the_batch(tmp_path, make_config, teacher, folder, form, tolerance):
    # Where a patch is its whole picture both see the same; the ensemble is the same in all 8 turns of it.
    for name in ("picture0.png", "picture2.png", "picture3.png"):
        (folder / name).unlink()
    more = (f"distill.cache={form}", "distill.self_ensemble=true", "training.batch_size=16")
    config = _config(make_config, teacher, folder, *more)
    session = Session(config, World(CPU))
    assert session.distillation is not None
    stream = session.prepared(_stream(folder), tmp_path / "run")
    with train_loader(stream, batch_size=16, workers=0) as loader:
        pair = session.pair(next(loader))
    assert pair.teacher is not None
    direct = ensembled(session.distillation.teacher, pair.lr)
    assert (direct - pair.hr).abs().mean() > 0.05
    torch.testing.assert_close(pair.teacher, direct, rtol=0, atol=tolerance)
    single = session.distillation.teacher(pair.lr)
    assert (single - direct).abs().max() > 0.01


def test_inside_a_larger_picture_they_differ_near_the_border_of_a_patch_alone(tmp_path, make_config, teacher, pictures):
    config = _config(make_config, teacher, pictures, "distill.cache=float16", "training.patch_size=24")
    session = Session(config, World(CPU))
    assert session.distillation is not None
    dataset = build_dataset(("folder", {"path": str(pictures), "augment": False}), scale=2, patch_size=24, role="train")
    stream = TrainStream(dataset, scale=2, patch_size=24, seed=3)
    with train_loader(session.prepared(stream, tmp_path / "run"), batch_size=4, workers=0) as loader:
        pair = session.pair(next(loader))
    assert pair.teacher is not None
    gap = (pair.teacher - session.distillation.teacher(pair.lr)).abs()
    reach = session.distillation.teacher.spec.receptive_field
    assert reach is not None
    inside = slice(2 * reach, 48 - 2 * reach)
    assert gap[..., inside, inside].numel() > 0
    assert gap[..., inside, inside].max() < 6e-4
    assert gap.max() > 0.01  # what is kept knows what lies around the patch


def test_what_is_kept_does_not_depend_on_the_precision_of_the_run(teacher):
    x = torch.rand(1, 3, 8, 8)
    fp32, bf16 = (Teacher(str(teacher), scale=2, dtype=dtype, device=CPU) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(fp32.pictures(x), bf16.pictures(x))
    assert not torch.equal(fp32(x), bf16(x))
    torch.testing.assert_close(fp32.pictures(x), fp32(x), rtol=0, atol=1e-6)


class Spy:
    """Counts the passes of teachers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fail_at: int | None = None) -> None:
        self.whole = self.batches = 0
        pictures, call = Teacher.pictures, Teacher.__call__

        def counted(teacher: Teacher, lr: Tensor) -> Tensor:
            if self.whole == fail_at:
                raise KeyboardInterrupt
            self.whole += 1
            return pictures(teacher, lr)

        def called(teacher: Teacher, lr: Tensor) -> Tensor:
            self.batches += 1
            return call(teacher, lr)

        monkeypatch.setattr(Teacher, "pictures", counted)
        monkeypatch.setattr(Teacher, "__call__", called)


def test_outputs_are_computed_once_for_all_runs_and_work_goes_on(
    tmp_path, monkeypatch, make_config, teacher, folder, quiet
):
    config = _config(make_config, teacher, folder)
    with monkeypatch.context() as patch:
        spy = Spy(patch, fail_at=3)
        with pytest.raises(KeyboardInterrupt):
            run(config, output=tmp_path / "runs/first", device="cpu", console=quiet)
        assert (spy.whole, spy.batches) == (3, 0)
    (kept,) = (tmp_path / "runs/teacher_outputs").iterdir()
    assert sorted(path.name for path in kept.iterdir()) == [
        *(f"00000{k}.safetensors" for k in range(3)),
        "about.json",
    ]
    for name, computed in (("first", 1), ("second", 0)):
        with monkeypatch.context() as patch:
            spy = Spy(patch)
            run(config, output=tmp_path / "runs" / name, device="cpu", console=quiet)
            assert (spy.whole, spy.batches) == (computed, 0)
    ensemble = _config(make_config, teacher, folder, "distill.self_ensemble=true", "distill.cache=float16")
    run(ensemble, output=tmp_path / "runs/third", device="cpu", console=quiet)
    assert len(list((tmp_path / "runs/teacher_outputs").iterdir())) == 2


def test_other_pixels_are_refused_by_name(tmp_path, make_config, teacher, folder, quiet):
    config = _config(make_config, teacher, folder)
    run(config, output=tmp_path / "runs/first", device="cpu", console=quiet)
    picture = folder / "picture2.png"
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)
    with pytest.raises(DataError, match=re.escape(f"{picture}: has changed since the teacher's output for it")):
        run(config, output=tmp_path / "runs/second", device="cpu", console=quiet)
    other = _config(make_config, teacher, folder, f"distill.cache_folder={tmp_path / 'other'}")
    run(other, output=tmp_path / "runs/second", device="cpu", console=quiet)
    assert len(list((tmp_path / "other").iterdir())) == 1


def test_a_run_does_not_go_on_with_other_pictures(tmp_path, make_config, teacher, folder, quiet):
    run(_config(make_config, teacher, folder), output=tmp_path / "runs/first", device="cpu", console=quiet)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "more.png")
    longer = _config(make_config, teacher, folder, "training.total_iter=3")
    with pytest.raises(DataError, match="the training pictures are others than those that this run began with"):
        run(longer, output=tmp_path / "runs/first", device="cpu", console=quiet)
    run(
        _config(make_config, teacher, folder, "training.total_iter=3", "distill.cache=null"),
        output=tmp_path / "runs/first",
        device="cpu",
        console=quiet,
    )


def test_a_damaged_file_is_named(tmp_path, make_config, teacher, folder, quiet):
    config = _config(make_config, teacher, folder)
    run(config, output=tmp_path / "runs/first", device="cpu", console=quiet)
    path = next((tmp_path / "runs/teacher_outputs").rglob("000001.safetensors"))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"000001.safetensors: not a complete output of a teacher .* delete it"):
        run(config, output=tmp_path / "runs/second", device="cpu", console=quiet)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("datasets.train.degradation=real_world", "the degradation real_world is drawn anew for every patch"),
        ("datasets.train.cache_mb=0", "raise cache_mb of the data set, or set distill.cache: null"),
    ],
)
def test_data_that_cannot_be_kept(tmp_path, make_config, teacher, folder, quiet, option, message):
    config = _config(make_config, teacher, folder, option)
    with pytest.raises(DataError, match=message):
        run(config, output=tmp_path / "run", device="cpu", console=quiet)
    assert not (tmp_path / "teacher_outputs").exists()
