"""Memory stays flat over many pictures: freed memory goes back, and what is kept for a size is bounded."""

import json
import os
import platform
import subprocess
import sys

import pytest

from sr_engine import allocator

_CHILD = """
import json
from bench.soak import soak
print(json.dumps(soak({pictures}, warm_up={warm_up})))
"""


def soaked(pictures: int, warm_up: int) -> float:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    environment |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _CHILD.format(pictures=pictures, warm_up=warm_up)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    early, late, _ = json.loads(done.stdout.splitlines()[-1])
    return late / early - 1


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc on Linux")
def test_memory_is_flat_over_two_thousand_pictures():
    assert soaked(2000, 200) < 0.05


def test_freed_memory_is_returned_where_it_gathered(monkeypatch):
    sizes = iter([100, 100, 130, 140, 110, 90, 130, 125])
    monkeypatch.setattr(allocator, "_resident", lambda: next(sizes) * 2**20)
    monkeypatch.setattr(allocator, "_chosen", lambda: False)
    monkeypatch.setattr(allocator, "_least", [0])
    trimmed: list[int] = []
    monkeypatch.setattr(
        allocator.ctypes, "CDLL", lambda _: type("C", (), {"malloc_trim": staticmethod(trimmed.append)})
    )
    # 100: returned, still 100; 130: 30 more; 140: returned, 110; 90: the least; 130: returned.
    assert [allocator.return_freed_memory() for _ in range(5)] == [True, False, True, False, True]
    assert trimmed == [0, 0, 0]


def test_a_user_of_malloc_variables_is_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setattr(allocator, "_least", [-(2**60)])
    assert not allocator.return_freed_memory()
