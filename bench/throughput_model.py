"""How many GPUs, cores and gigabits a million 1080p pictures an hour take, on paper.

    python -m bench.throughput_model [--an-hour N] [--peak TFLOPS] [--utilisation U] [--memory GB/S] [--read FORMAT]
        [--node GPUS CORES GBIT/S] [--json FILE]
    python -m bench.throughput_model --measure [--pictures FOLDER]     # one core: what decoding and encoding take here

For a picture of P pixels upscaled s times, with F multiply-adds and B bytes of activations a pixel (counted on the
network itself, bf16, every operation reading its inputs from memory and writing its output):

    GPU seconds  = P * (2 F / (utilisation * peak) + B / memory)      the two parts don't overlap: pessimistic
    core seconds = decoding + encoding                                measured, see `Codec`
    network bits = 8 * (bytes of the file in + bytes of the file out)

The bottleneck is what takes the most machines of the kind that `--node` describes.

Utilisation is an assumption. Memory is what an H100 copied in bench/results/NVIDIA_H100_80GB_HBM3. Nothing here was
measured with a network on a GPU.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench import machine
from sr_engine.atomic import atomic_write
from sr_engine.compress.measure import inference_copy, macs
from sr_engine.data.images import read_image
from sr_engine.data.rows import Encoding, Header, row_writer
from sr_engine.data.sources import list_pictures
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.generator import Generator
from sr_engine.models.presets import Preset, Scale

INPUTS = Path(__file__).with_name("throughput_inputs.json")
WIDTH, HEIGHT = 1920, 1080
PRESETS: tuple[Preset, ...] = ("nano", "tiny", "small", "base", "large")
SCALES: tuple[Scale, ...] = (2, 4)
FORMS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
_SIDE = 64


@dataclass(frozen=True)
class Network:
    """A preset at a scale. macs, bytes: for each pixel of the input picture."""

    preset: str
    scale: int
    macs: float
    bytes: float


@dataclass(frozen=True)
class Codec:
    """Seconds of one core and bytes for one picture of a scale (1 = the input) in a format."""

    form: str
    scale: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Gpu:
    """peak: bf16 operations a second without sparsity. memory: bytes a second."""

    peak: float
    utilisation: float
    memory: float


@dataclass(frozen=True)
class Node:
    """A machine; `gigabits` a second in each direction."""

    gpus: float = 8
    cores: float = 112
    gigabits: float = 100


@dataclass(frozen=True)
class Need:
    """What `an_hour` pictures an hour take. a_gpu: pictures a second of one. Network in gigabits a second."""

    preset: str
    scale: int
    form: str
    a_gpu: float
    gpus: float
    cores: float
    gigabits_in: float
    gigabits_out: float
    terabytes_a_day: float

    @property
    def cores_a_gpu(self) -> float:
        return self.cores / self.gpus

    def nodes(self, node: Node) -> tuple[float, str]:
        """How many machines, not rounded, and what takes that many."""
        traffic = max(self.gigabits_in, self.gigabits_out) / node.gigabits
        return max((self.gpus / node.gpus, "GPU"), (self.cores / node.cores, "cores"), (traffic, "network"))


def need(network: Network, read: Codec, write: Codec, gpu: Gpu, an_hour: float) -> Need:
    """The arithmetic; `read.scale` is 1 and `write.scale` the network's."""
    rate = an_hour / 3600
    pixels = WIDTH * HEIGHT
    seconds = pixels * (2 * network.macs / (gpu.utilisation * gpu.peak) + network.bytes / gpu.memory)
    return Need(
        network.preset,
        network.scale,
        write.form,
        1 / seconds,
        rate * seconds,
        rate * (read.seconds + write.seconds),
        rate * 8 * read.bytes / 1e9,
        rate * 8 * write.bytes / 1e9,
        rate * 86400 * write.bytes / 1e12,
    )


def count(preset: Preset, scale: Scale) -> Network:
    """A preset's work, counted on 64x64 pixels as it runs for inference, for a value of two bytes."""
    net = inference_copy(Generator(scale=scale, preset=preset))
    multiply_adds = macs(net, scale) * scale**2 / (1280 * 720)
    with torch.inference_mode(), _Traffic() as traffic:
        net(torch.zeros(1, 3, _SIDE, _SIDE))
    return Network(preset, scale, multiply_adds, traffic.values * 2 / _SIDE**2)


class _Traffic(TorchDispatchMode):
    """Counts the values that operations read and write, but for views, which move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        view = any(back.alias_info is not None and not back.alias_info.is_write for back in func._schema.returns)
        if not view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.values += sum(tensor.numel() for tensor in tensors)
        return out


def measure(pictures: Sequence[Path], repeats: int = 3) -> list[Codec]:
    """Best times of decoding and encoding on this machine, in one thread; upscaled with mks2021.

    Args:
        pictures: laid side by side until 1920x1080 pixels are full.
    """
    torch.set_num_threads(1)
    picture = _mosaic(pictures)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for form, ending in FORMS.items():
            path = Path(folder) / f"in{ending}"
            _write(path, form, picture)
            seconds = min(_seconds(lambda path=path: read_image(path)) for _ in range(repeats))
            found.append(Codec(form, 1, round(seconds, 4), path.stat().st_size))
        for scale in SCALES:
            large = Upscaler("mks2021", scale=scale, device="cpu")(picture)
            for form, ending in FORMS.items():
                path = Path(folder) / f"out{ending}"
                seconds = min(
                    _seconds(lambda path=path, form=form, large=large: _write(path, form, large))
                    for _ in range(repeats)
                )
                found.append(Codec(form, scale, round(seconds, 4), path.stat().st_size))
    return found


def _write(path: Path, form: str, picture: np.ndarray) -> None:
    header = Header(picture.shape[1], picture.shape[0], 3, np.uint8)
    with row_writer(path, header, Encoding(form)) as write:
        write(picture)


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _mosaic(paths: Sequence[Path]) -> np.ndarray:
    crops = iter(read_image(path).pixels for path in paths)
    out = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    top = 0
    while top < HEIGHT:
        left, row = 0, 0
        while left < WIDTH:
            crop = next(crops)[: HEIGHT - top, : WIDTH - left]
            out[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
            left, row = left + crop.shape[1], crop.shape[0]
        top += row
    return out


def read_inputs() -> tuple[list[Codec], list[Network], str]:
    """What was measured and counted, and on which machine."""
    content = json.loads(INPUTS.read_text(encoding="utf-8"))
    codecs = [Codec(**row) for row in content["codecs"]]
    return codecs, [Network(**row) for row in content["networks"]], content["machine"]


def table(gpu: Gpu, an_hour: float, *, read: str = "JPEG") -> list[Need]:
    """All presets, scales and formats of results."""
    codecs, networks, _ = read_inputs()
    by = {(codec.form, codec.scale): codec for codec in codecs}
    return [need(network, by[read, 1], by[form, network.scale], gpu, an_hour) for network in networks for form in FORMS]


def lines(rows: Sequence[Need], node: Node) -> list[str]:
    """The table in Markdown."""
    columns = ["pictures/s a GPU", "GPUs", "cores", "cores a GPU", "Gbit/s in", "Gbit/s out", "TB a day", "machines"]
    out = [f"| preset | scale | results | {' | '.join(columns)} | bottleneck |", f"|---|---|---|{'---:|' * 8}---|"]
    for row in rows:
        machines, bottleneck = row.nodes(node)
        numbers = (row.a_gpu, row.gpus, row.cores, row.cores_a_gpu, row.gigabits_in, row.gigabits_out)
        cells = [_shown(number) for number in (*numbers, row.terabytes_a_day, machines)]
        out.append(f"| {row.preset} | x{row.scale} | {row.form} | {' | '.join(cells)} | {bottleneck} |")
    return out


def codec_lines(codecs: Sequence[Codec]) -> list[str]:
    """What was measured, in Markdown."""
    out = ["| format | pixels | seconds of a core | MB |", "|---|---|---:|---:|"]
    for codec in codecs:
        size = f"{'read' if codec.scale == 1 else 'written'}, {WIDTH * codec.scale}x{HEIGHT * codec.scale}"
        out.append(f"| {codec.form} | {size} | {codec.seconds:.3f} | {codec.bytes / 1e6:.2f} |")
    return out


def network_lines(networks: Sequence[Network]) -> list[str]:
    """What was counted, in Markdown."""
    out = ["| preset | scale | multiply-adds a pixel | bytes a pixel |", "|---|---|---:|---:|"]
    return out + [f"| {row.preset} | x{row.scale} | {row.macs:,.0f} | {row.bytes:,.0f} |" for row in networks]


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m bench.throughput_model", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--an-hour", type=float, default=1e6, metavar="N", help="pictures (1e6)")
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s, bf16 dense (H100 SXM data sheet: 989)")
    parser.add_argument("--utilisation", type=float, default=0.2, help="share of the peak (0.2, assumed)")
    parser.add_argument("--memory", type=float, default=2995.8, help="GB/s (2995.8, a copy on an H100)")
    parser.add_argument("--read", choices=FORMS, default="JPEG", help="format of the pictures (JPEG)")
    parser.add_argument(
        "--node", type=float, nargs=3, default=(8, 112, 100), metavar="N", help="of a machine (8 112 100)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--measure", action="store_true", help=f"measure and count anew, into {INPUTS.name}")
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/train/photos"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    if options.measure:
        content = {
            "machine": f"{machine.device_name('cpu')}, one core, load {os.getloadavg()[0]:.2f}",
            "codecs": [asdict(codec) for codec in measure(list_pictures(options.pictures))],
            "networks": [asdict(count(preset, scale)) for scale in SCALES for preset in PRESETS],
        }
        with atomic_write(INPUTS) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    gpu = Gpu(options.peak * 1e12, options.utilisation, options.memory * 1e9)
    rows = table(gpu, options.an_hour, read=options.read)
    codecs, networks, where = read_inputs()
    print(where, "", *codec_lines(codecs), "", *network_lines(networks), sep="\n")
    print("", *lines(rows, Node(*options.node)), sep="\n")
    if options.json is not None:
        with atomic_write(options.json) as temporary:
            temporary.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
