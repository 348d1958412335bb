"""How fast each preset trains: iterations of `sr-engine train` for some seconds.

Left out of its loop are validation, checkpoints and the report after each logging.print_every iterations.

    python -m bench.throughput --seconds 20 [--presets nano tiny small base large] [--json FILE]
        [--compile] [--cuda-graph true|false|both] [--batch N] [--patch N] [--precision bf16] [--device cpu]
        [KEY=VALUE ...]

(on a GPU machine without installing: PYTHONPATH=.:kernels python -m bench.throughput ...). Further KEY=VALUE change the
configuration, configs/x4.yml, whose data are replaced by smooth random pictures that lie on the device. Rows go to the
section `throughput` of this machine's results, and to FILE, after each preset. Peak memory is that of the timed
iterations; of a CUDA graph, whose memory is taken while it is recorded, that of warming up and recording as well.

Operations of the model: six for each multiply-add of a forward pass, two in it and four in the backward pass, as far as
torch.utils.flop_counter knows them. Their share is of the matrix rate that this machine reached beforehand.
"""

import argparse
import importlib.util
import itertools
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import floors, machine
from bench.clock import reclaim, wait
from bench.record import Results
from sr_engine.atomic import atomic_write

ROOT = Path(__file__).parents[1]
PRESETS = ("nano", "tiny", "small", "base", "large")
PICTURES, SIDE = 24, 384
WARM_UP = 12  # iterations: algorithms are chosen, kernels compiled, a graph recorded


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m bench.throughput", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each preset, after warming up")
    parser.add_argument("--presets", nargs="+", default=PRESETS, metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where rows go besides the results")
    parser.add_argument("--compile", action="store_true", help="training.compile")
    parser.add_argument("--cuda-graph", choices=("true", "false", "both"), help="default: both on a GPU, a row each")
    parser.add_argument("--batch", type=int, help="training.batch_size")
    parser.add_argument("--patch", type=int, help="training.patch_size")
    parser.add_argument("--precision", help="training.precision")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    # `--presets nano KEY=VALUE`: argparse takes all for presets.
    changed = [*options.overrides, *(word for word in options.presets if "=" in word)]
    presets = [word for word in options.presets if "=" not in word]
    if unknown := [word for word in presets if word not in PRESETS]:
        parser.error(f"no preset named {', '.join(unknown)}; presets: {', '.join(PRESETS)}")
    if strange := [word for word in changed if "=" not in word]:
        parser.error(f"expected KEY=VALUE, got {', '.join(strange)}")
    for package in ("pydantic", "rich"):
        if importlib.util.find_spec(package) is None:
            print(f"skipped: training needs {package}, which is not installed here")
            return 0
    given = {"batch_size": options.batch, "patch_size": options.patch, "precision": options.precision}
    given |= {"compile": options.compile or None}
    overrides = [f"training.{key}={value}" for key, value in given.items() if value is not None] + changed
    chosen = options.cuda_graph or ("both" if options.device == "cuda" else "false")
    graphs = ("false", "true") if chosen == "both" else (chosen,)
    torch.set_num_threads(machine.cores())
    results, rows = Results.open(options.device), []
    with tempfile.TemporaryDirectory() as folder:
        pictures = synthetic(Path(folder))
        for preset, graph in itertools.product(presets, graphs):
            try:
                changes = [*overrides, f"training.cuda_graph={graph}"]
                row = measure(preset, pictures, options.device, options.seconds, changes)
            except torch.OutOfMemoryError as error:
                print(f"{preset:6} left out: {str(error).splitlines()[0]}")
                continue
            rows.append(row)
            print(line(row), flush=True)
            known = [old for old in results.content.get("throughput", []) if _key(old) != _key(row)]
            if "SR_BENCH_RESULTS" in os.environ or options.seconds >= 5:
                results.put("throughput", [*known, row])
            if options.json is not None:
                with atomic_write(options.json) as file:
                    file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            reclaim(options.device)
    return 0


def measure(preset: str, pictures: Path, device: str, seconds: float, overrides: Sequence[str]) -> dict[str, Any]:
    """One row: what the training loop of a preset does on "cpu" or "cuda"."""
    from sr_engine.train.distributed import join_world

    config = training_config(pictures, f"network_g.preset={preset}", *overrides)
    training = config.training
    with join_world(device) as world, tempfile.TemporaryDirectory() as output:
        run = training_run(config, Path(output), world)
        session = run.session
        with run.loader(run.stream()) as loader:
            reset_peak(device)
            for _ in range(WARM_UP if device == "cuda" else 2):
                run.iterate(loader)
            run.settle()
            wait(device)
            if not training.cuda_graph:  # a replay allocates nothing, so that what it uses shows in the recording only
                reset_peak(device)
            session.meter.report(session.iteration, 0.0)
            first, start = session.iteration, time.perf_counter()
            while time.perf_counter() - start < seconds:
                with session.meter.step():
                    run.iterate(loader)
            run.settle()
            wait(device)
            taken = time.perf_counter() - start
            peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
        interval = session.meter.report(session.iteration, 0.0)
        plain = session.steps.plain
        rate = (session.iteration - first) / taken
        pixels = training.batch_size * (training.patch_size * config.scale) ** 2
        operations = 3 * forward_flops(config) * training.batch_size
        ceiling = floors.matrix_rate(device, session.dtype)
        return {
            "preset": preset,
            "precision": str(session.dtype).removeprefix("torch."),
            "batch": training.batch_size,
            "patch": training.patch_size,
            "scale": config.scale,
            "compile": training.compile,
            "cuda_graph": plain is not None and plain.recorded,
            "iterations": session.iteration - first,
            "iterations_per_second": _digits(rate),
            "milliseconds": _digits(1e3 / rate),
            "patches_per_second": _digits(rate * training.batch_size),
            "megapixels_per_second": _digits(rate * pixels / 1e6),
            "teraflops": _digits(rate * operations / 1e12),
            "share_of_matrix_rate": _digits(rate * operations / ceiling),
            "peak_megabytes": None if peak is None else round(peak / 1e6, 1),
            "data_wait": _digits(interval.data_wait),
            "parameters": sum(p.numel() for p in session.net_g.parameters()),
            "notes": session.notes,
        }


def reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def line(row: dict[str, Any]) -> str:
    """A row for the terminal."""
    ways = [name for name in ("compile", "cuda_graph") if row[name]]
    memory = "" if row["peak_megabytes"] is None else f"  {row['peak_megabytes']:.0f} MB at most"
    return (
        f"{row['preset']:6} {row['precision']} {row['batch']} x {row['patch']}x{row['patch']} {' '.join(ways)}: "
        f"{row['iterations_per_second']:.2f} it/s ({row['milliseconds']:.2f} ms)  "
        f"{row['patches_per_second']:.0f} patches/s  "
        f"{row['megapixels_per_second']:.2f} megapixels/s  {row['teraflops']:.3g} TFLOP/s, "
        f"{row['share_of_matrix_rate']:.1%} of the matrix rate{memory}  data wait {row['data_wait']:.1%}"
    )


def synthetic(folder: Path, count: int = PICTURES, side: int = SIDE) -> Path:
    """Smooth random pictures as files in `folder`."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        noise.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index:03}.png", compress_level=1)
    return folder


def training_config(pictures: Path, *overrides: str) -> Any:
    """configs/x4.yml without an end, on the pictures of a folder, which lie in the memory of the device."""
    import sr_engine.train  # noqa: F401  registers what configurations name
    from sr_engine.config.load import load_config

    data = f'datasets.train={{type: folder, path: "{pictures}", in_memory: true}}'
    return load_config(str(ROOT / "configs/x4.yml"), [data, "training.total_iter=1000000", *overrides])


def training_run(config: Any, output: Path, world: Any) -> Any:
    """A `sr_engine.train.trainer.Run` that shows and writes nothing."""
    from rich.console import Console

    from sr_engine.train.trainer import Run

    return Run(config, output, "none", world, Console(quiet=True))


def forward_flops(config: Any) -> int:
    """Operations of a forward pass of one patch, two for a multiply-add, kernels folded."""
    from torch.utils.flop_counter import FlopCounterMode

    from sr_engine.config import registry
    from sr_engine.train.validate import inference_copy

    net = registry.build("network_g", config.network_g.type, scale=config.scale, **config.network_g.arguments)
    net = inference_copy(net)
    before = os.environ.get("SR_KERNELS_IMPL")
    os.environ["SR_KERNELS_IMPL"] = "reference"  # whose products the counter sees
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 3, config.training.patch_size, config.training.patch_size))
    finally:
        del os.environ["SR_KERNELS_IMPL"]
        if before is not None:
            os.environ["SR_KERNELS_IMPL"] = before
    return counter.get_total_flops()


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("preset", "precision", "batch", "patch", "compile", "cuda_graph"))


def _digits(value: float) -> float:
    return float(f"{value:.5g}")


if __name__ == "__main__":
    raise SystemExit(main())
