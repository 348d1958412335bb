"""Real limits of memory, each in a process of its own: less is tried, with a note, and at the end one sentence."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bench import memory

_LINUX = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc on Linux")

# The limit is on the data of the process: what it has at the time, and so much more.
_LIMITED = """
import json, logging, resource, sys
import numpy as np
import torch
torch.set_num_threads(1)
notes = []
handler = logging.Handler()
handler.emit = lambda record: notes.append(record.getMessage())
logging.getLogger("sr_engine").addHandler(handler)
from sr_engine.errors import EngineError
from sr_engine.infer.memory import free_memory
from sr_engine.infer.upscaler import Upscaler
picture = np.random.default_rng(0).integers(0, 256, (600, 500, 3), np.uint8)
whole = Upscaler("tiny-x2", device="cpu", precision="fp32")(picture)
up = Upscaler("tiny-x2", device="cpu", precision="fp32", tile="off")
up(picture[:16, :16])
from sr_engine.allocator import trim
trim()
data = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (data + int(sys.argv[1]) * 2**20, -1))
free = free_memory(torch.device("cpu"))
error, off = None, None
try:
    found = up(picture)
except EngineError as problem:
    error = str(problem)
resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
if error is None:
    off = int(np.abs(found.astype(int) - whole).max())
print(json.dumps({"free": free, "off": off, "error": error, "notes": notes}))
"""


def limited(mebibytes: int) -> dict:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _LIMITED, str(mebibytes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@_LINUX
def test_a_limit_leads_to_smaller_tiles_with_a_note():
    """In one pass this picture takes about 150 MiB."""
    found = limited(80)
    assert found["error"] is None
    assert found["off"] <= 1
    assert any(note.startswith("out of memory on cpu: going on with tiles of") for note in found["notes"])
    assert 0 < found["free"] <= 80 * 2**20, "the limit counts as free memory"


@_LINUX
def test_a_limit_that_is_too_low_ends_in_one_sentence():
    found = limited(1)
    assert "memory" in found["error"]
    assert "does not suffice" in found["error"]


@_LINUX
@pytest.mark.slow
@pytest.mark.parametrize(("most", "arguments"), [(1.0, []), (1.2, ["--channels", "4"]), (1.0, ["--factor", "2.5"])])
def test_a_large_picture_takes_less_than_its_result(most, arguments):
    """The result has 1.1 GiB in 8 bits, 4.3 as floats. Rows that wait may take 0.75 GiB, a pass and strips of the
    result a quarter; alpha a copy of the picture and a quarter of it as floats, 0.2 GiB more."""
    found = memory.run(["--model", "mks2021", "--scale", "4", "--size", "6000x4000", *arguments])
    assert int(str(found["peak"])) - int(str(found["before"])) < most * 2**30


@_LINUX
@pytest.mark.slow
def test_tiles_chosen_by_memory_keep_to_their_share():
    """A pass may take 1 GiB, the rows that wait 0.75 GiB, and the C library keeps some of both."""
    found = memory.run(["--model", "tiny-x4", "--size", "3000x1000"])
    assert int(str(found["peak"])) - int(str(found["before"])) < 1.75 * 2**30


def test_the_picture_of_the_measurement_has_what_is_hard():
    picture = memory.photograph(60, 80, 4)
    assert picture.shape == (60, 80, 4)
    assert set(picture[..., 3].ravel()) == {0, 255}
    assert Path(memory.ROOT / "bench").is_dir()
