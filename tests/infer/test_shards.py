"""Pictures of a manifest in one process and under torchrun: what is killed goes on, and nothing is done for nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_engine.errors import DataError, EngineError, ImageFileError
from sr_engine.infer.attempt import MAX_DEATHS, Made, Rules
from sr_engine.infer.manifest import Manifest, open_manifest, plain_name
from sr_engine.infer.records import RecordWriter, parts_folder
from sr_engine.infer.shards import Shard, shard_from, upscale_share
from tests.infer.manifest_runs import BAD, check_run, files, read_records, write_pictures

RULES = Rules(frozenset({"copy"}), 1)
ROOT = Path(__file__).parents[2]


class Copy:
    """The least work: the picture itself. `dies` = the call that ends with an error which is no picture's."""

    def __init__(self, dies: int | None = None, model: str = "copy") -> None:
        self.done: list[str] = []
        self.dies, self.model = dies, model

    def __call__(self, source: Path, target: Path) -> Made:
        if len(self.done) == self.dies:
            raise RuntimeError("a device that fails")
        if source.stem.endswith("bad"):
            raise ImageFileError(f"{source}: is bad.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        self.done.append(source.stem)
        return Made(1, 1, self.model)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    names = [*"abcdefgh", "ibad", "j"]
    for name in names:
        Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "list.txt").write_text("".join(f"{name}.png\n" for name in names))
    return open_manifest(tmp_path / "list.txt", tmp_path / "out", plain_name(""))


@pytest.fixture
def results(manifest: Manifest) -> Path:
    return manifest.out / "results.jsonl"


def statuses(results: Path) -> str:
    return "".join(record["status"][0] for record in read_records(results))


def test_one_process_does_all_and_leaves_one_file_of_results(manifest, results):
    work, seen = Copy(), []
    summary = upscale_share(manifest, results, work, RULES, Shard(), seen.append)
    assert (summary.done, summary.failed, summary.skipped, summary.count) == (9, 1, 0, 10)
    assert work.done == [*"abcdefgh", "j"]
    records = read_records(results)
    assert [record["source"] for record in records] == [entry.source for entry in manifest]
    assert [record.target for record in seen] == [entry.target for entry in manifest]
    first = records[0]
    assert {**first, "seconds": 0, "time": 0, "worker": "", "bytes": 0} == {
        **{"source": "a.png", "target": "a.png", "status": "done", "error": None, "width": 1, "height": 1},
        **{"bytes": 0, "seconds": 0, "model": "copy", "scale": 1, "worker": "", "time": 0},
    }
    assert records[8]["error"].endswith("ibad.png: is bad.")
    assert not parts_folder(results).exists()


def test_a_run_that_breaks_goes_on_and_makes_the_picture_it_was_at_anew(manifest, results):
    with pytest.raises(RuntimeError):
        upscale_share(manifest, results, Copy(dies=4), RULES, Shard())
    assert not results.exists()
    manifest.target(next(iter(manifest))).unlink()  # a result that went away
    (manifest.out / "e.png").write_bytes(b"what the process died at may be there already")
    with (parts_folder(results) / "rank-00000.jsonl").open("a") as part:
        part.write('{"source": "f.png", "target": "f.png", "sta')
    work = Copy()
    assert upscale_share(manifest, results, work, RULES, Shard()).done == 9
    assert work.done == [*"aefgh", "j"]
    assert statuses(results) == "dddddddd" + "fd"


def test_nothing_is_done_twice_and_what_failed_is_tried_again(manifest, results):
    upscale_share(manifest, results, Copy(), RULES, Shard())
    work, seen = Copy(), []
    summary = upscale_share(manifest, results, work, RULES, Shard(), seen.append)
    assert (summary.done, summary.failed, work.done) == (9, 1, [])
    assert [record.source for record in seen] == ["ibad.png"]
    upscale_share(manifest, results, work, RULES, Shard(restart=1), seen.append)
    assert len(seen) == 1, "torchrun's own restart is no reason to try it again"


def test_files_that_no_record_tells_of_stay_unless_asked(manifest, results):
    manifest.out.mkdir()
    Image.fromarray(np.full((1, 1, 3), 9, np.uint8)).save(manifest.out / "a.png")
    Image.fromarray(np.full((2, 2, 3), 9, np.uint8)).save(manifest.out / "b.png")
    before = [(manifest.out / name).read_bytes() for name in ("a.png", "b.png")]
    for _ in range(2):
        upscale_share(manifest, results, Copy(), RULES, Shard())
        assert statuses(results) == "sfddddddfd"
        assert "b.png: is another picture: use --overwrite" in read_records(results)[1]["error"]
        assert before == [(manifest.out / name).read_bytes() for name in ("a.png", "b.png")]
    work = Copy()
    upscale_share(manifest, results, work, replace(RULES, overwrite=True), Shard())
    assert work.done == ["a", "b"]
    assert statuses(results) == "ddddddddfd"


def test_results_of_another_model_are_not_taken_for_this_one_s(manifest, results):
    upscale_share(manifest, results, Copy(), RULES, Shard())
    other, work = replace(RULES, models=frozenset({"better"})), Copy(model="better")
    with pytest.raises(DataError, match=r"a\.png: was made by copy x1: use --overwrite"):
        upscale_share(manifest, results, work, other, Shard())
    assert work.done == []
    upscale_share(manifest, results, work, replace(other, overwrite=True), Shard(1, 2))
    assert sorted(work.done) == [*"abcdefgh", "j"]


def test_a_picture_at_which_processes_die_is_given_up(manifest, results):
    for _ in range(MAX_DEATHS):
        with pytest.raises(RuntimeError):
            upscale_share(manifest, results, Copy(dies=0), RULES, Shard())
    work = Copy()
    assert upscale_share(manifest, results, work, RULES, Shard()).failed == 2
    assert work.done == [*"bcdefgh", "j"]
    assert "a.png: 3 processes died at it" in read_records(results)[0]["error"]


def test_who_is_through_does_the_share_of_the_dead(manifest, results):
    first = Copy(dies=2)
    with pytest.raises(RuntimeError):
        upscale_share(manifest, results, first, RULES, Shard(1, 3))
    works = [Copy(), Copy()]
    for rank, work in zip((0, 2), works, strict=True):
        summary = upscale_share(manifest, results, work, RULES, Shard(rank, 3))
        assert summary.count == 10
    assert sorted(first.done + works[0].done + works[1].done) == [*"abcdefgh", "j"], "one after another, nothing twice"
    assert statuses(results) == "ddddddddfd"


def test_fewer_processes_can_go_on_with_what_more_began(manifest, results):
    for rank in (0, 2):
        with pytest.raises(RuntimeError):
            upscale_share(manifest, results, Copy(dies=1), RULES, Shard(rank, 3))
    work = Copy()
    upscale_share(manifest, results, work, RULES, Shard())
    assert work.done == [*"bdefgh", "j"]
    assert not parts_folder(results).exists()


def test_a_process_does_not_take_what_another_has_just_done(manifest, results):
    """Rank 0 reads the records, rank 1 then does everything: rank 0 finds it done, and its records stay."""

    class Late(Copy):
        def __call__(self, source: Path, target: Path) -> Made:
            if not self.done:
                upscale_share(manifest, results, other, RULES, Shard(1, 2))
                time.sleep(0.2)  # what was read counts for ten times as long as reading took
            return super().__call__(source, target)

    other, late = Copy(), Late()
    upscale_share(manifest, results, late, RULES, Shard(0, 2))
    assert sorted(other.done) == [*"abcdefgh", "j"]
    assert late.done == ["a"], "at work on it while the other took it too"
    assert statuses(results) == "ddddddddfd"


def test_a_longer_manifest_goes_on_with_the_same_results(manifest, results):
    upscale_share(manifest, results, Copy(), RULES, Shard())
    (manifest.path.parent / "list.txt").write_text("j.png\nc.png\na.png\nd.png\n")
    work = Copy()
    shorter = open_manifest(manifest.path, manifest.out, plain_name(""))
    assert upscale_share(shorter, results, work, RULES, Shard()).count == 4
    assert work.done == []
    assert [record["source"][0] for record in read_records(results)] == [*"jcad"]


def test_a_file_that_is_no_result_manifest_is_not_replaced(manifest, results):
    manifest.out.mkdir()
    results.write_text("precious\n")
    with pytest.raises(DataError, match=r"results\.jsonl: exists and is no result manifest"):
        upscale_share(manifest, results, Copy(), RULES, Shard())
    assert results.read_text() == "precious\n"


def test_half_a_line_is_cut_off(tmp_path):
    for left in (b"", b"half", b"x" * 200_000, b"whole\nhalf", b"whole\n"):
        (tmp_path / "part.jsonl").write_bytes(left)
        with RecordWriter(tmp_path / "part.jsonl") as writer:
            writer.started("a")
        kept, line = (tmp_path / "part.jsonl").read_bytes()[: left.rfind(b"\n") + 1], b'"status": "started"'
        assert kept == left[: left.rfind(b"\n") + 1]
        assert (tmp_path / "part.jsonl").read_bytes()[len(kept) :].count(line) == 1
        assert all(json.loads(x) for x in (tmp_path / "part.jsonl").read_bytes()[len(kept) :].splitlines())


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0"}, "'WORLD_SIZE' is not set"),
        ({"RANK": "two", "WORLD_SIZE": "3"}, "is no number"),
        ({"RANK": "3", "WORLD_SIZE": "3"}, "RANK 3 of WORLD_SIZE 3 does not exist"),
    ],
)
def test_an_environment_that_torchrun_does_not_make_is_refused(environment, message):
    with pytest.raises(EngineError, match=message):
        shard_from(environment)


def test_the_environment_of_torchrun_is_understood():
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "TORCHELASTIC_RESTART_COUNT": "2"}
    assert shard_from(torchrun) == Shard(5, 8, 1, 2)
    assert shard_from({}) == Shard()
    assert Shard(5, 8, 1, 2).device("cpu") == "cpu"


# Under torchrun the process of rank 1 is killed at its third picture, once.
KILLED = """
import os, signal
from pathlib import Path
from sr_engine.cli import upscale_many
from sr_engine.cli.main import main
call, count = upscale_many.PictureWork.__call__, 0
def killed(self, source, target):
    global count
    count += 1
    if os.environ["RANK"] == "1" and count == 3 and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return call(self, source, target)
upscale_many.PictureWork.__call__ = killed
raise SystemExit(main())
"""


def run(command: list[str], folder: Path, code: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "kernels")))}
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == code, done.stderr[-4000:]
    return done


def test_a_rank_that_is_killed_is_started_again_and_nothing_is_missing_or_doubled(tmp_path):
    write_pictures(tmp_path / "in", 14)
    verb = ["upscale", "--manifest", "in/pictures.txt", "--model", "tiny-x4", "--device", "cpu", "-o"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    (tmp_path / "killed.py").write_text(KILLED)
    said = run([*torchrun, "killed.py", *verb, "out"], tmp_path, 0)
    assert (tmp_path / "killed").exists()
    # Each rank says so at its end; rank 0 may have been through before the other was killed.
    assert said.stdout.count("11 done, 3 failed, 0 skipped of 14") in (2, 3), said.stdout
    alone = run(["-m", "sr_engine", *verb, "alone"], tmp_path, 1)
    assert alone.stderr.count("picture") >= len(BAD)
    check_run(tmp_path / "out", tmp_path / "alone", 14)
    # Once more, as a user would: only what failed is tried.
    again = run(["-m", "sr_engine", *verb, "out"], tmp_path, 1)
    assert again.stderr.splitlines() == alone.stderr.splitlines()
    check_run(tmp_path / "out", tmp_path / "alone", 14)


def test_a_process_that_is_told_to_end_leaves_no_temporary_files(tmp_path):
    slow = """
import os, signal
from sr_engine.atomic import atomic_write
from sr_engine.infer.shards import ending_cleanly
with ending_cleanly(), atomic_write("result.png"):
    os.kill(os.getpid(), signal.SIGTERM)
"""
    run(["-c", slow], tmp_path, 128 + signal.SIGTERM)
    assert files(tmp_path) == set()
