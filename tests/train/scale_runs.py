"""Several runs of `sr-engine train` in the processes of one torchrun, whose start costs seconds.

    torchrun ... scale_runs.py JOBS.json

JOBS.json is a list of {"arguments": [of `sr-engine train`], "kill": [rank, iteration] or none}. A process is killed as
a machine kills it, in its first life only; what torchrun restarts goes on with the same list.
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
        doomed = job.get("kill")
        if doomed is not None:
            print(f"begun at {time.time()}", flush=True)
        status = main(["train", *job["arguments"]])
        if status:
            sys.exit(status)
