"""Several runs of `sr-engine train` in the processes of one torchrun, whose start costs seconds.

    torchrun ... scale_runs.py JOBS.json

JOBS.json is a list of {"arguments": [of `sr-engine train`]} with, if wanted,
  "kill": [rank, iteration]: that process is killed as a machine kills it, in its first life only; what torchrun
          restarts goes on with the same list;
  "own": [arguments of rank 0, of rank 1], "folders": [where rank 0 works, where rank 1 does];
  "counts": true: how often gradients are exchanged is printed;
  "fails": true: the job is to fail, and the next one follows.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from sr_engine.cli.main import main
from sr_engine.train.distributed import World
from sr_engine.train.steps import Steps

launch, wrap = Steps.launch, World.wrap
doomed: list[int] | None = None
exchanges: list[int] | None = None  # bytes of each


def launch_or_die(self, pair, it, **arguments):
    if doomed == [int(os.environ.get("RANK", "0")), it] and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
        print(f"killed at {time.time()}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return launch(self, pair, it, **arguments)


def count_and_exchange(_, bucket):
    assert dist.group.WORLD is not None
    if exchanges is not None:
        exchanges.append(bucket.buffer().nbytes)
    return allreduce_hook(dist.group.WORLD, bucket)


def wrap_and_count(self, net):
    wrapped = wrap(self, net)
    if exchanges is not None and isinstance(wrapped, DistributedDataParallel):
        wrapped.register_comm_hook(None, count_and_exchange)
    return wrapped


if __name__ == "__main__":
    torch.set_num_threads(1)
    Steps.launch, World.wrap = launch_or_die, wrap_and_count
    for job in json.loads(Path(sys.argv[1]).read_text()):
        doomed, rank = job.get("kill"), int(os.environ.get("RANK", "0"))
        exchanges = [] if job.get("counts") else None
        own = job["own"][rank] if "own" in job else []
        if "folders" in job:
            os.chdir(job["folders"][rank])
        if doomed is not None:
            print(f"begun at {time.time()}", flush=True)
        begin = time.monotonic()
        status = main(["train", *job["arguments"], *own])
        print(f"rank {rank} status {status} after {time.monotonic() - begin:.1f} s", flush=True)
        if exchanges:
            print(f"rank {rank} exchanged {len(exchanges)} buckets, {sum(exchanges)} bytes", flush=True)
        if status and not job.get("fails"):
            sys.exit(status)
