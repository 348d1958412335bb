"""What memory a large picture takes: `python -m bench.memory --model tiny-x2 --size 8000x6000`.

A child process, set up as the command line is, upscales a synthetic photograph and takes the result's rows as they are
finished; its peak is that of the whole process (ru_maxrss), Python, torch and the network included.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]


def photograph(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Something with edges, slopes and noise everywhere, and in alpha a hole: (height, width, channels)."""
    generator = np.random.default_rng(0)
    picture = np.empty((height, width, channels), np.uint8)
    x = np.arange(width, dtype=np.float32)
    noise = generator.normal(0, 6, (64, width)).astype(np.float32)
    for y in range(height):
        for c in range(channels):
            line = 128 + 60 * np.sin(x / (40 + 9 * c) + y / 31) + 40 * ((x // 97 + y // 61) % 2) + noise[y % 64]
            picture[y, :, c] = line.clip(0, 255)
        if channels in (2, 4):
            picture[y, :, -1] = np.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2, 0, 255)
    return picture


def measure(options: argparse.Namespace) -> dict[str, object]:
    """In this process: one upscale, and the peaks before it and after."""
    from sr_engine.allocator import keep_freed_memory

    keep_freed_memory()
    from sr_engine.infer.upscaler import Upscaler

    width, height = (int(side) for side in options.size.split("x"))
    picture = photograph(height, width, options.channels)
    up = Upscaler(options.model, scale=options.scale, device="cpu", precision="fp32", tta=options.tta)
    target = (round(height * options.factor), round(width * options.factor)) if options.factor else None
    before, start, rows = _peak(), time.perf_counter(), 0
    for band in up.rows(picture, size=target):
        rows += len(band)
    return {
        "model": up.name,
        "size": options.size,
        "channels": options.channels,
        "rows": rows,
        "seconds": round(time.perf_counter() - start, 1),
        "before": before,
        "peak": _peak(),
        "threads": threading.active_count(),
    }


def run(arguments: Sequence[str]) -> dict[str, object]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "bench.memory", "--here", *arguments]
    found = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--model", default="tiny-x2")
    parser.add_argument("--scale", type=int, help="of a classical upsampler")
    parser.add_argument("--size", default="8000x6000", metavar="WxH")
    parser.add_argument("--channels", type=int, default=3, choices=(1, 2, 3, 4))
    parser.add_argument("--factor", type=float, help="resize the result to so many times the picture")
    parser.add_argument("--tta", action="store_true")
    parser.add_argument("--here", action="store_true", help="in this process")
    options = parser.parse_args(arguments)
    if options.here:
        print(json.dumps(measure(options)))
        return 0
    found = run(arguments)
    gib = {name: int(str(found[name])) / 2**30 for name in ("before", "peak")}
    print(
        f"{found['model']} on {found['size']} with {found['channels']} channels: {found['rows']} rows in "
        f"{found['seconds']} s, peak {gib['peak']:.2f} GiB ({gib['before']:.2f} before, the picture included)"
    )
    return 0


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    raise SystemExit(main(sys.argv[1:]))
