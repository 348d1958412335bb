"""Several runs of `sr-engine train` in the processes of one torchrun, whose start costs seconds.

    torchrun ... scale_runs.py JOBS.json

JOBS.json is a list of {"arguments": [of `sr-engine train`]} with, if wanted,
  "kill": [rank, iteration]: that process is killed as a machine kills it, in its first life only; what torchrun
          restarts goes on with the same list;
  "own": [arguments of rank 0, of rank 1], "folders": [where rank 0 works, where rank 1 does];
  "fails": true: the job is to fail, and the next one follows.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from sr_engine.cli.main import main
from sr_engine.train.steps import Steps

launch = Steps.launch
doomed: list[int] | None = None


def launch_or_die(self, pair, it, **arguments):
    if doomed == [int(os.environ.get("RANK", "0")), it] and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
        print(f"killed at {time.time()}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return launch(self, pair, it, **arguments)


if __name__ == "__main__":
    torch.set_num_threads(1)
    Steps.launch = launch_or_die
    for job in json.loads(Path(sys.argv[1]).read_text()):
        doomed, rank = job.get("kill"), int(os.environ.get("RANK", "0"))
        own = job["own"][rank] if "own" in job else []
        if "folders" in job:
            os.chdir(job["folders"][rank])
        if doomed is not None:
            print(f"begun at {time.time()}", flush=True)
        begin = time.monotonic()
        status = main(["train", *job["arguments"], *own])
        print(f"rank {rank} status {status} after {time.monotonic() - begin:.1f} s", flush=True)
        if status and not job.get("fails"):
            sys.exit(status)
