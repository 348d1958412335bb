"""Runs the tests of the Triton kernels in Triton's interpreter, which needs processes of its own.

They start with the session and are asked for at its end: see `conftest.py`.
"""

import importlib.util

import pytest

from tests.kernels.background import ROOM, interpreter

JOBS = [  # file, which of its tests: parts of about a minute, the longest first
    ("test_magic_resample_learned_triton.py", "stencils"),
    ("test_magic_resample_learned_triton.py", "not stencils"),
    ("test_window_attention_triton.py", "float16"),
    ("test_window_attention_triton.py", "not float16"),
    ("test_magic_resample_triton.py", "every_filter or layouts"),
    ("test_magic_resample_triton.py", "not every_filter and not layouts"),
    ("test_content_stats_triton.py", ""),
    ("test_channel_attention_triton.py", ""),
]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton exists for Linux only")
@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_kernels_in_the_interpreter(job: tuple[str, str]) -> None:
    status, output = interpreter.result(job)
    assert status == 0, output
    assert " passed" in output


def test_every_file_is_run() -> None:
    assert {file for file, _ in JOBS} == {p.name for p in ROOM.glob("test_*_triton.py")}
