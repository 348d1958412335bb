"""Two runs do not write into one folder, and a run that was killed keeps nobody out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sr_engine.errors import TrainingError
from sr_engine.train import run
from sr_engine.train.lock import LOCK_FILE, sole_run

pytest.importorskip("fcntl", reason="Windows has no such locks: nothing is locked there")

HOLD = """from pathlib import Path
from sr_engine.train.lock import sole_run
with sole_run(Path({!r})):
    print(1, flush=True)
    input()
"""


@pytest.fixture
def other(tmp_path):
    """A process that has the folder `run`."""
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(str(tmp_path / "run"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_and_writes_nothing(tmp_path, make_config, quiet, other):
    sentence = rf"run is being written by another run \(process {other.pid} on .*\): wait .*--output\.$"
    for resume in ("auto", "none"):
        with pytest.raises(TrainingError, match=sentence):
            run(make_config(), output=tmp_path / "run", resume=resume, device="cpu", console=quiet)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK_FILE]
    other.kill()
    other.wait()
    assert (tmp_path / "run" / LOCK_FILE).exists()
    run(make_config("datasets.val=null"), output=tmp_path / "run", device="cpu", console=quiet)
    assert not (tmp_path / "run" / LOCK_FILE).exists()


def test_within_one_process_too_and_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        refused = pytest.raises(TrainingError, match=f"process {os.getpid()} on")
        with sole_run(tmp_path / "run"), refused, sole_run(tmp_path / "run"):
            pass
    assert not (tmp_path / "run").exists(), "a folder made for nothing"


def test_a_run_that_is_refused_leaves_no_folder(tmp_path, make_config):
    with pytest.raises(Exception, match="does not exist"):
        run(make_config(), output=tmp_path / "run", resume="nothing.ckpt", device="cpu", console=Console(quiet=True))
    assert not (tmp_path / "run").exists()
