"""A run that is killed at any moment, or finds no room, ends when it is repeated as one that was not disturbed.

Bit for bit, and file for file.
"""

import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sr_engine.atomic import _machine
from sr_engine.config.load import dump_config
from sr_engine.train.checkpoint import load_checkpoint
from tests.train.killing import Killer
from tests.train.staged import assert_equal, rows

KILLED, REFUSED = -9, 2
OVERRIDES = (
    "training.total_iter=14",
    "training.checkpoint_every=3",
    "training.validate_every=5",
    "training.keep_last=2",
    "training.net_d_iters=2",
    "logging.print_every=2",
    "logging.tensorboard=true",
)


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with Killer() as started:
        yield started


@pytest.fixture
def config(tmp_path: Path, make_config: Any) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(dump_config(make_config(*OVERRIDES, gan=True)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def wholes() -> dict[str, Any]:
    return {}


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory, config: Path, killer: Killer, wholes: dict[str, Any]) -> Path:
    """The run that nobody disturbed; and how many operations on files it had, how long it took."""
    if not wholes:
        folder = tmp_path_factory.mktemp("whole")
        start = time.monotonic()
        assert killer.run(config, folder / "run", count=str(folder / "count")) == 0
        wholes.update(run=folder / "run", count=int((folder / "count").read_text()), seconds=time.monotonic() - start)
    return wholes["run"]


def _board(output: Path) -> dict[str, list[tuple[int, Any]]]:
    """What TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(output / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    tags: Any = found.Tags()
    shown: dict[str, list[Any]] = {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in tags["scalars"]
        if tag not in ("train/it_per_s", "train/data_wait")
    }
    return shown | {
        tag: [(event.step, event.encoded_image_string) for event in found.Images(tag)] for tag in tags["images"]
    }


def assert_same(whole: Path, killed: Path) -> None:
    """Every file: names, and content but for times; TensorBoard's by what it shows. Nothing temporary is left."""
    files = [{p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} for folder in (whole, killed)]
    names, others = ({name for name in found if name.parts[0] != "tensorboard"} for found in files)
    assert names == others
    assert rows(whole) == rows(killed)
    for name in names:
        if name.suffix == ".ckpt":
            assert_equal(load_checkpoint(whole / name), load_checkpoint(killed / name))
        elif name.suffix != ".jsonl":
            assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert _board(whole) == _board(killed)


# Where it hurts most: (before or after it, operation, name of the file or event).
MOMENTS = {
    "before any checkpoint": ("after", "event", "train"),
    "between writing a checkpoint and its name": ("before", "replace", "00000006.ckpt"),
    "between its name and the removal of old ones": ("after", "replace", "00000009.ckpt"),
    "while old ones are removed": ("after", "unlink", "00000006.ckpt"),
    "between the best model and its checkpoint": ("after", "replace", "best.safetensors"),
    "between the name of the last checkpoint and the removal of old ones": ("after", "replace", "00000014.ckpt"),
    "while the model is written": ("before", "replace", "model.safetensors"),
    "between the model and the comparison": ("after", "replace", "model.safetensors"),
    "between the comparison and the last row": ("after", "replace", "comparison.png"),
}


def test_killed_at_the_worst_moments(tmp_path: Path, killer: Killer, config: Path, whole: Path) -> None:
    for title, (moment, *around) in MOMENTS.items():
        how: dict[str, Any] = {moment: around}
        assert killer.run(config, tmp_path / "run", **how) == KILLED, title
    assert (tmp_path / "run/run.lock").exists()
    for place in ("", "checkpoints", "visualization/picture0"):  # as a process leaves them that is no more
        (tmp_path / "run" / place / f".name.{_machine()}-{2**22 + 1:x}-01234567.tmp.ckpt").touch()
    assert killer.run(config, tmp_path / "run") == 0
    assert_same(whole, tmp_path / "run")


@pytest.mark.slow
def test_killed_thirty_times_at_random_moments(
    tmp_path: Path, killer: Killer, config: Path, whole: Path, wholes: dict[str, Any]
) -> None:
    """Every other time at a random operation on a file, else after a random time; a run that ends is compared."""
    draw = random.Random(20261124)
    kills = ended = 0
    while kills < 30 or ended == 0:
        output = tmp_path / f"run{ended}"
        if kills < 30 and kills % 2:
            status = killer.run(config, output, at=draw.randint(1, wholes["count"]))
        elif kills < 30:
            status = killer.run(config, output, seconds=draw.uniform(0.0, 0.7 * wholes["seconds"]))
        else:
            status = killer.run(config, output)
        kills += status == KILLED
        if status != KILLED:
            assert status == 0
            assert_same(whole, output)
            ended += 1
    print(f"{kills} kills, {ended} runs compared with one that took {wholes['seconds']:.1f} s")


def test_files_that_may_not_grow(tmp_path: Path, killer: Killer, config: Path, whole: Path) -> None:
    """RLIMIT_FSIZE, a bound on every file: a sentence each time, and no file that is half there."""
    for limit in (100, 12_000):
        assert killer.run(config, tmp_path / "run", limit=limit) == REFUSED, limit
        text = killer.said
        assert re.search(r"^refused: .* could not be written \(.*\): earlier checkpoints are intact", text, re.M), text
        assert "Traceback" not in text
        assert not [path for path in (tmp_path / "run").rglob(".*") if path.is_file()]
    assert killer.run(config, tmp_path / "run") == 0
    assert_same(whole, tmp_path / "run")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"needs the right to mount a file system: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def test_a_full_disk_and_a_disk_that_is_read_only(killer: Killer, config: Path, whole: Path, disk: Path) -> None:
    sizes = [64, 96, 128, 200, 400]
    kept: dict[str, bytes] = {}
    for size in sizes:
        _remount(disk, f"size={size}k")
        status = killer.run(config, disk / "run")
        text = killer.said
        assert status == REFUSED, (size, text)
        assert re.search(r"^refused: .* written \(No space left on device\)", text, re.M), text
        assert "Traceback" not in text
        assert not [path for path in disk.rglob(".*") if path.is_file()]
        for name, content in kept.items():
            assert (disk / name).read_bytes() == content, "what had been saved is intact"
        kept = {str(p.relative_to(disk)): p.read_bytes() for p in disk.rglob("*.ckpt")}
    assert kept
    _remount(disk, "size=64m,ro")
    assert killer.run(config, disk / "run") == REFUSED
    assert "nothing can be written there (Read-only file system): make the folder writable" in killer.said
    _remount(disk, "rw")
    assert killer.run(config, disk / "run") == 0
    assert_same(whole, disk / "run")
