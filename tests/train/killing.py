"""Runs in processes of their own that are killed: a server that has everything imported forks one for each.

`python -m tests.train.killing` reads a JSON object a line: the arguments of `_child`. It answers with the number of the
process, and when that is gone with its exit status. No thread has been started when it forks.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

END = "-- end --\n"
ROOT = Path(__file__).parents[2]

# What a run does to files: opened for writing, renamed, removed ... (audit events of Python).
OPERATIONS = ("open", "os.rename", "os.remove", "os.truncate", "os.chmod", "os.mkdir")


class Killer:
    """Starts runs, and kills them.

    Attributes:
        said: what the last one printed. (Through a pipe: a file may not grow where RLIMIT_FSIZE is set.)
    """

    def __init__(self) -> None:
        self.said = ""
        paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.train.killing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(60)

    def _listen(self) -> None:
        assert self._server.stderr is not None
        for line in self._server.stderr:
            self._lines.put(line)

    def run(self, config: Path, output: Path, *, seconds: float | None = None, **how: Any) -> int:
        """Run to the end, or until killed after so many seconds; the exit status, below 0 that of a signal.

        `how`: `at` kills at the n-th operation on files in `output`, counted from 1; `count` is a file for how many
        there were; `before` and `after` kill around an operation on a name: `[replace, x]`, `[unlink, x]` on a file,
        or `[event, x]` of the log; `limit` is RLIMIT_FSIZE in bytes.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"config": str(config), "output": str(output), **how}) + "\n")
        self._server.stdin.flush()
        process = int(self._server.stdout.readline())
        timer = None
        if seconds is not None:
            timer = threading.Timer(seconds, _kill, [process])
            timer.start()
        status = int(self._server.stdout.readline())
        if timer is not None:
            timer.cancel()
        self.said = "".join(iter(self._lines.get, END))
        return status


def _kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _child(
    config: str,
    output: str,
    at: int | None = None,
    count: str | None = None,
    before: list[str] | None = None,
    after: list[str] | None = None,
    limit: int | None = None,
) -> None:
    from rich.console import Console

    from sr_engine.config.load import load_config
    from sr_engine.errors import EngineError
    from sr_engine.train import run

    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in OPERATIONS and str(arguments[0]).startswith(output):
            if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            seen += 1
            if seen == at:
                _die()

    if at is not None or count is not None:
        sys.addaudithook(watch)
    for moment, what in (("before", before), ("after", after)):
        if what is not None:
            _kill_around(moment, *what)
    if limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(load_config(config), output=output, device="cpu", console=Console(quiet=True))
    except EngineError as error:
        print(f"refused: {error}", file=sys.stderr, flush=True)
        os._exit(2)
    if count is not None:
        Path(count).write_text(str(seen), encoding="utf-8")


def _kill_around(moment: str, operation: str, name: str) -> None:
    """Die before or after the first time that a file with this in its name is replaced, removed or written to."""
    if operation == "event":
        from sr_engine.train.runlog import RunLog

        owner: Any = RunLog
    else:
        owner = Path
    original = getattr(owner, operation)

    def around(self: Any, *arguments: Any, **more: Any) -> Any:
        hit = any(name in str(value) for value in (self, *arguments))
        if hit and moment == "before":
            _die()
        result = original(self, *arguments, **more)
        if hit:
            _die()
        return result

    setattr(owner, operation, around)


def _serve() -> None:
    import runpy

    import torch
    import torch.utils.tensorboard

    runpy.run_path(str(ROOT / "tests/train/conftest.py"))  # registers the small network
    torch.set_num_threads(1)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            status = 1
            try:
                os.dup2(2, 1)
                _child(**json.loads(line))
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        print(process, flush=True)
        _, code = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(code), flush=True)
        print("\n" + END, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _serve()
