"""Test files in processes of their own, beside the tests of this one."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

ROOM = Path(__file__).parent
Job = tuple[str, str]  # file, which of its tests


class Interpreter:
    """Runs files in Triton's interpreter, as many at a time as there are cores, behind everything else.

    Most tests keep one core busy, so the other does this meanwhile.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._results: dict[Job, Future[tuple[int, str]]] = {}
        self._running: set[subprocess.Popen[bytes]] = set()

    def start(self, jobs: Iterable[Job]) -> None:
        """Begin with those that have not begun."""
        for job in jobs:
            if job not in self._results:
                self._results[job] = self._pool.submit(self._run, *job)

    def result(self, job: Job) -> tuple[int, str]:
        """Exit status and the end of the output."""
        self.start([job])
        return self._results[job].result()

    def stop(self) -> None:
        """End what runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.kill()

    def _run(self, file: str, part: str) -> tuple[int, str]:
        environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", part, str(ROOM / file)]
        if os.name == "posix":
            command = ["nice", "-n", "10", *command]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, env=environment, cwd=ROOM.parents[1], stdout=log, stderr=log)
            self._running.add(process)
            status = process.wait()
            self._running.discard(process)
            log.seek(0)
            return status, log.read().decode(errors="replace")[-8000:]


interpreter = Interpreter()
