"""Two processes agree about a loss that is not finite on one of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
RANK = """
import sys, torch
from torch import distributed
from sr_engine.losses.finite import NonFiniteLossError, check_finite, fetch

rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
print([v.item() for v in fetch([torch.tensor(1.0 + rank), torch.tensor(4.0)])])
try:
    values = fetch([torch.tensor(1.0), torch.tensor(float("nan") if rank else 2.0)])
    check_finite(dict(zip(("pixel", "gan"), values)))
except NonFiniteLossError as error:
    print(error.names)
distributed.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_ranks_average_and_stop_together(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "store")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in ranks]
    assert outputs == ["[1.5, 4.0]\n['gan']\n"] * 2
