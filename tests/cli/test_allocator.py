"""Freed memory is kept for the next tensors, in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

from sr_engine.cli.main import main

_FAULTS = """
import resource
import torch
from sr_engine.allocator import keep_freed_memory
{call}
x = torch.ones(8, 2**20)
for _ in range(20):
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    y = x + 1
    z = y + 1
    del y, z
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def _faults(call: str, **variables: str) -> int:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    environment |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS.format(call=call)], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again():
    assert _faults("assert keep_freed_memory()") < 100  # 64 MiB are 16,384 pages
    assert _faults("assert not keep_freed_memory()", MALLOC_TRIM_THRESHOLD_="131072") > 1000


def test_the_command_line_sets_it(monkeypatch, capsys):
    calls: list[str] = []
    monkeypatch.setattr("sr_engine.cli.main.keep_freed_memory", lambda: calls.append("kept"))
    main(["schema"])
    assert calls == ["kept"]
