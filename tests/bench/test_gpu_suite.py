"""The suite for GPU machines: what it refuses, runs and says, and how it packs its output. `python3` is a stand-in."""

import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "bench" / "gpu_suite.sh"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

# Has CUDA and pytest-xdist, but neither pydantic nor spandrel; the sweep fails.
STAND_IN = """#!/bin/bash
case "$*" in
  *cuda.is_available*) exit ${NO_CUDA:-0} ;;
  *"find_spec('xdist')"*) exit 0 ;;
  *find_spec*) exit 1 ;;
  *bench.tune*) echo swept; echo '{}' >"${*: -1}"; exit 7 ;;
esac
echo "ran $* compile_only=${SR_BENCH_COMPILE_ONLY:-} results=${SR_BENCH_RESULTS:-} path=$PYTHONPATH"
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    path = tmp_path / "python3"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return str(path)


def suite(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # nproc heeds it
    return subprocess.run(
        ["bash", str(SUITE), *words], env=own | environment, capture_output=True, text=True, check=False
    )


def pack(folder: Path, **settings: int) -> None:
    """As the suite does at its end."""
    said = "".join(f"{name}={value}; " for name, value in settings.items())
    script = f'source "{SUITE}"; {said}pack "{folder}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_script_parses():
    done = subprocess.run(["bash", "-n", str(SUITE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert os.access(SUITE, os.X_OK)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["out"], "--parts is missing"),
        (["--parts", "test"], "OUT_DIR is missing"),
        (["--parts"], "--parts needs a value"),
        (["--parts", "test,tests", "out"], "no part named 'tests'"),
        (["--parts", "test", "a", "b"], "one OUT_DIR, got a and b"),
        (["--part", "test", "out"], "unknown option --part"),
        (["--parts", "test", "/proc/out"], "cannot write to /proc/out"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(words, complaint):
    done = suite(*words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"gpu_suite.sh: {complaint}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_it_says_so_with_status_3(tmp_path, python):
    done = suite("--parts", "test", str(tmp_path / "out"), PYTHON=python, NO_CUDA="1")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line == f"gpu_suite.sh: needs a CUDA device: {python} sees none"


def test_every_part_leaves_a_log_and_a_line(tmp_path, python):
    out = tmp_path / "out"
    done = suite("--parts=all", str(out), PYTHON=python, PYTHONPATH="/carried")
    assert done.returncode == 1  # the sweep failed
    summary = (out / "summary.txt").read_text().splitlines()
    assert [line.rpartition(",")[0] for line in summary] == [
        "test: rc 0", "bench: rc 0", "tune: rc 7", "train: rc skipped"
    ]  # fmt: skip
    assert files(out) == ["bench.log", "summary.txt", "test.log", "train.log", "tune.json", "tune.log"]
    tests = [line for line in (out / "test.log").read_text().splitlines() if line.startswith("ran ")]
    assert len(tests) == 2
    assert "tests/kernels -n auto -k not beyond_32_bit " in tests[0]
    assert "tests/kernels -k beyond_32_bit " in tests[1]
    assert "path=.:kernels:/carried" in tests[0]
    compiling, timing = [line for line in (out / "bench.log").read_text().splitlines() if line.startswith("ran ")]
    assert f"-n {len(os.sched_getaffinity(0))} " in compiling
    assert "compile_only=1" in compiling
    assert "--benchmark-only" in timing
    assert "compile_only= " in timing
    assert f"results={out}/results" in timing
    assert f"results={out}/results" in tests[0]
    assert "swept" in (out / "tune.log").read_text()
    for name, missing in (("test", "pydantic"), ("bench", "spandrel"), ("train", "pydantic")):
        assert f"{name}: {missing} is missing" in (out / f"{name}.log").read_text()


def test_a_part_that_takes_too_long_is_stopped_and_keeps_its_output(tmp_path):
    script = f'source "{SUITE}"; OUT={tmp_path}; within 1 slow.log bash -c "echo begun; sleep 30"; echo $?'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=20)
    assert done.stdout == "124\n"
    assert (tmp_path / "slow.log").read_text().endswith("begun\n")


@pytest.mark.parametrize("group", [False, True])
def test_a_signal_ends_the_part_and_what_it_started(tmp_path, group):
    python, out, begun = tmp_path / "python3", tmp_path / "out", tmp_path / "begun"
    slow = STAND_IN.replace("*bench.tune*)", f"*bench.tune*) (echo $BASHPID >{begun}; exec sleep 60) & wait;")
    python.write_text(slow)
    python.chmod(0o755)
    command = ["bash", str(SUITE), "--parts", "test,tune,train", str(out)]
    running = subprocess.Popen(command, env=os.environ | {"PYTHON": str(python)}, start_new_session=True)
    end = time.monotonic() + 20
    while not (begun.exists() and begun.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    sleeping = int(begun.read_text())
    before = (out / "summary.txt").read_text()
    (os.killpg if group else os.kill)(running.pid, signal.SIGTERM)
    assert running.wait(timeout=10) == 1
    state = Path(f"/proc/{sleeping}/status")
    assert not state.exists() or "State:\tZ" in state.read_text()
    assert before.startswith("test: rc 0, ")
    lines = (out / "summary.txt").read_text().splitlines()
    assert [line.rpartition(",")[0] for line in lines] == ["test: rc 0", "tune: stopped"]
    assert files(out) == ["summary.txt", "test.log", "tune.log"]


def test_large_tests_are_found_by_name():
    """What the suite runs one after the other is what takes more than 2^31 numbers."""
    found = [path for path in (ROOT / "tests" / "kernels").glob("*.py") if "beyond_32_bit" in path.read_text()]
    assert len(found) >= 5


def test_eight_files_are_left_as_they_are(tmp_path):
    (tmp_path / "results" / "H100").mkdir(parents=True)
    for name in ("test.log", "bench.log", "tune.log", "tune.json", "train.log", "train.json", "results/H100/a.json"):
        (tmp_path / name).write_text("x")
    before = files(tmp_path)
    pack(tmp_path)
    assert files(tmp_path) == sorted([*before, "summary.txt"])
    assert len(files(tmp_path)) == 8


def test_too_many_files_go_into_one_archive(tmp_path):
    deep = tmp_path / "results" / "a" / "b" / "c"
    deep.mkdir(parents=True)
    names = [f"{n}.json" for n in range(9)] + ["results/a/b/c/deep.json", "with a blank.log", "test.log"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "half.json.part").write_text("unfinished")
    (tmp_path / "empty.log").touch()
    (tmp_path / "link.log").symlink_to("test.log")
    pack(tmp_path)
    left = [name for name in files(tmp_path) if (tmp_path / name).stat().st_size or name == "summary.txt"]
    assert len(files(tmp_path)) <= 8
    assert {"summary.txt", "more.tar.gz"} <= set(left)
    with tarfile.open(tmp_path / "more.tar.gz") as archive:
        packed = archive.getnames()
    assert {"results/a/b/c/deep.json", "with a blank.log"} <= set(packed)
    assert sorted({*packed, *left} - {"summary.txt", "more.tar.gz", "empty.log"}) == sorted(names)


def test_large_files_are_shortened(tmp_path):
    (tmp_path / "test.log").write_bytes(b"begin\n" + b"." * 12_000_000 + b"\nend")
    (tmp_path / "tune.json").write_bytes(b"[" + b"0" * 12_000_000 + b"]")
    (tmp_path / "noise.bin").write_bytes(os.urandom(12_000_000))
    pack(tmp_path, MOST_BYTES=11_000_000)
    log = (tmp_path / "test.log").read_bytes()
    assert log.startswith(b"begin")
    assert log.endswith(b"end")
    assert len(log) < 11_000_000
    assert files(tmp_path) == ["summary.txt", "test.log", "tune.json.gz"]
    assert "left out: noise.bin.gz" in (tmp_path / "summary.txt").read_text()
