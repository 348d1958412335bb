"""Runs the tests of the Triton kernels in Triton's interpreter, which needs processes of its own: side by side."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOM = Path(__file__).parent
JOBS = [  # file, which of its tests: halves of about a minute and a half
    ("test_channel_attention_triton.py", ""),
    ("test_window_attention_triton.py", "float16"),
    ("test_window_attention_triton.py", "not float16"),
]
Running = dict[tuple[str, str], tuple["subprocess.Popen[bytes]", Path]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    started: Running = {}
    for number, (file, half) in enumerate(JOBS):
        log = tmp_path_factory.mktemp("interpreter") / f"{number}.log"
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", half, str(ROOM / file)]
        with log.open("wb") as out:
            child = subprocess.Popen(command, env=environment, cwd=ROOM.parents[1], stdout=out, stderr=out)
        started[file, half] = child, log
    yield started
    for child, _ in started.values():
        child.kill()


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton exists for Linux only")
@pytest.mark.parametrize(("file", "half"), JOBS)
def test_kernels_in_the_interpreter(running, file, half):
    child, log = running[file, half]
    assert child.wait() == 0, log.read_text(errors="replace")[-8000:]
    assert " passed" in log.read_text(errors="replace")


def test_every_file_is_run():
    assert {file for file, _ in JOBS} == {p.name for p in ROOM.glob("test_*_triton.py")}
