"""Runs the tests of the Triton kernels in Triton's interpreter, which needs processes of its own: side by side."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOM = Path(__file__).parent
JOBS = [  # file, which of its tests: parts of about a minute
    ("test_channel_attention_triton.py", ""),
    ("test_content_stats_triton.py", ""),
    ("test_magic_resample_triton.py", "every_filter or layouts"),
    ("test_magic_resample_triton.py", "not every_filter and not layouts"),
    ("test_magic_resample_learned_triton.py", "stencils"),
    ("test_magic_resample_learned_triton.py", "not stencils"),
    ("test_window_attention_triton.py", "float16"),
    ("test_window_attention_triton.py", "not float16"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Future[tuple[int, str]]]]:
    """Exit status and output of each job, as many at a time as there are cores."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def interpret(file: str, part: str) -> tuple[int, str]:
        log = tmp_path_factory.mktemp("interpreter") / "log"
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", part, str(ROOM / file)]
        with log.open("wb") as out:
            status = subprocess.run(command, env=environment, cwd=ROOM.parents[1], stdout=out, stderr=out, check=False)
        return status.returncode, log.read_text(errors="replace")[-8000:]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {job: pool.submit(interpret, *job) for job in JOBS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton exists for Linux only")
@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_kernels_in_the_interpreter(finished, job):
    status, output = finished[job].result()
    assert status == 0, output
    assert " passed" in output


def test_every_file_is_run():
    assert {file for file, _ in JOBS} == {p.name for p in ROOM.glob("test_*_triton.py")}
