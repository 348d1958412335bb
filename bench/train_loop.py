"""What the training loop costs on top of a bare one: `python bench/train_loop.py [CONFIG] [key=value ...]`.

Both update the same kind of network on the same batches, one step each in turn, so that a change of the machine's load
hits both. The bare loop has what no training can do without: forward, the first loss, backward, clipping, optimiser.
The engine's has the loader, the loss bank with its check, the weight average, and the meter as well.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_

import sr_engine.train  # noqa: F401  registers what configurations name
from sr_engine.config.load import load_config
from sr_engine.data import TrainStream, build_dataset, train_loader
from sr_engine.losses.inputs import LossInputs
from sr_engine.train.distributed import join_world
from sr_engine.train.session import Session
from sr_engine.train.steps import Pair

WARM_UP, STEPS = 5, 40


def main(config_path: str, *overrides: str) -> None:
    config = load_config(config_path, overrides)
    training = config.training
    with join_world() as world:
        engine, bare = Session(config, world), Session(config, world)
        dataset = build_dataset(config.datasets.train, scale=config.scale, patch_size=training.patch_size, role="train")
        stream = TrainStream(dataset, scale=config.scale, patch_size=training.patch_size, seed=0)
        net, optimizer = bare.net_g, bare.steps.generator.optimizer
        loss = next(iter(bare.bank.losses.values()))
        seconds: dict[str, list[float]] = {"bare": [], "engine": [], "waiting for data": []}
        on_gpu = world.device.type == "cuda"
        loader = train_loader(stream, batch_size=training.batch_size, pin_memory=on_gpu, as_uint8=on_gpu)
        with loader:
            for step in range(WARM_UP + STEPS):
                start = time.perf_counter()
                with engine.meter.wait():
                    batch = next(loader).to(world.device, torch.channels_last)
                waited = time.perf_counter() - start
                pair = Pair(batch.lr, batch.hr)
                report = engine.steps.run(pair, step, lr_g=1e-4, lr_d=1e-4, next_pair=lambda pair=pair: pair)
                engine.meter.add(report.values, report.weights)
                _synchronise(world.device)
                middle = time.perf_counter()
                with torch.autocast(world.device.type, engine.dtype, enabled=engine.dtype != torch.float32):
                    sr = net(pair.lr)
                loss(LossInputs(sr, pair.hr, pair.lr)).backward()
                clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                _synchronise(world.device)
                if step >= WARM_UP:
                    seconds["engine"].append(middle - start)
                    seconds["bare"].append(time.perf_counter() - middle)
                    seconds["waiting for data"].append(waited)
    print(f"{config_path}, {world.device}, {engine.dtype}, medians of {STEPS} steps")
    for name, values in seconds.items():
        print(f"{name:18} {1e3 * statistics.median(values):9.2f} ms")
    print(f"engine / bare      {statistics.median(seconds['engine']) / statistics.median(seconds['bare']):9.3f}")


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(*(sys.argv[1:] or [str(Path(__file__).parents[1] / "configs/x4.yml")]))
