"""Ray: 300 pictures on two local workers, one of them killed in the middle."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sr_engine.errors import EngineError
from sr_engine.infer import cluster
from tests.infer.manifest_runs import check_run, read_records, write_pictures

ROOT = Path(__file__).parents[2]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "sr_engine", "upscale", *map(str, words), "--model", "tiny-x4", "--device", "cpu"]


def environment() -> dict[str, str]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "kernels")))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def test_without_ray_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"Ray is not installed: pip install 'sr-engine\[ray\]'"):
        cluster.check_ray()


def test_groups_are_places_in_a_file(tmp_path):
    (tmp_path / "todo").write_text("".join(f"{number}\n" for number in range(10)))
    assert cluster._groups(tmp_path / "todo", 4) == [
        {"offset": 0, "count": 4},
        {"offset": 8, "count": 4},
        {"offset": 16, "count": 2},
    ]


@pytest.mark.parametrize(
    ("cards", "cores", "asked", "gpus", "expected"),
    [
        (8, 64, None, True, (8, 1.0)),
        (8, 64, 32, True, (32, 0.25)),
        (2, 64, 3, True, (3, 0.5)),
        (8, 64, None, False, (64, 0.0)),
        (0, 4, None, True, (4, 0.0)),
    ],
)
def test_workers_share_the_cards(cards, cores, asked, gpus, expected):
    class Ray:
        @staticmethod
        def cluster_resources():
            return {"GPU": cards, "CPU": cores}

    assert cluster._pool(Ray, asked, gpus) == expected


def test_more_workers_than_cores_are_refused_rather_than_waited_for():
    class Ray:
        @staticmethod
        def cluster_resources():
            return {"CPU": 2.0}

    with pytest.raises(EngineError, match="3 workers need a core each, and Ray has 2: pass --workers 2"):
        cluster._pool(Ray, 3, True)


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_nothing_missing_or_doubled(tmp_path):
    pytest.importorskip("ray", reason="needs the extra of 490 MB: pip install 'sr-engine[ray]'")
    count = 300
    manifest = write_pictures(tmp_path / "in", count, side=16)
    out, alone = tmp_path / "out", tmp_path / "alone"
    run = subprocess.Popen(
        command("--manifest", manifest, "-o", out, "--ray", "--workers", 2),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    killed = _kill_a_worker(run, out, after=60, before=count - 60)
    said, complaints = run.communicate(timeout=300)
    assert run.returncode == 1, complaints[-4000:]  # three pictures are bad
    assert f"297 done, 3 failed, 0 skipped of {count}" in said
    assert not (tmp_path / "out" / "results.jsonl.parts").exists()
    workers = {record["worker"] for record in read_records(out / "results.jsonl")}
    assert killed in workers
    assert len(workers) == 3, "two, and the one in the place of the killed one"

    single = subprocess.run(command("--manifest", manifest, "-o", alone), env=environment(), check=False, timeout=300)
    assert single.returncode == 1
    check_run(out, alone, count)

    # Once more: nothing is left but what failed.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    again = subprocess.run(
        command("--manifest", manifest, "-o", out, "--ray", "--workers", 2),
        env=environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert again.returncode == 1, again.stderr[-4000:]
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    check_run(out, alone, count)


def _kill_a_worker(run: subprocess.Popen[str], out: Path, *, after: int, before: int) -> str:
    """Kill one worker with SIGKILL when `after` pictures are done; returns its name in records."""
    parts = out / "results.jsonl.parts"
    while run.poll() is None:
        records = []
        for part in parts.glob("ray-*.jsonl"):
            whole = part.read_text().rpartition("\n")[0]
            (tmp := out / "whole.jsonl").write_text(whole)
            records += [record for record in read_records(tmp) if record["status"] != "started"]
            tmp.unlink()
        if len(records) >= after:
            worker = records[-1]["worker"]
            os.kill(int(worker.split()[1]), signal.SIGKILL)
            assert len(records) < before, "the worker was killed too late to be of interest"
            return worker
        time.sleep(0.05)
    raise AssertionError((run.communicate()[1])[-4000:])
