"""Whole third-party networks before and after `accelerate`: time and peak memory, forward and training step.

`pytest bench/test_accelerate.py --benchmark-only -s`, with the `zoo` extra. The original and its accelerated copy take
turns; outputs must agree first. On a CPU give every case a process of its own (`-k`): what the allocator kept of an
earlier case moves the ratio. On a CPU: float32, batch 1. On a GPU (the same command): bfloat16 at 256x256 and the
training step of SwinIR. Targets, times as fast: on 2 CPU cores SwinIR-light 1.6 at 64x64 and 1.8 at 72x88, HAT-S 1.5,
DAT-light 1.3, peak memory of SwinIR and HAT at 128x128 1.5 times lower; on an H100 SwinIR 1.6, SwinIR-light 2.2, HAT 2,
training step of SwinIR 1.5.

SR_BENCH_SMOKE=1 tries the code with networks of one block.
"""

import copy
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("spandrel", reason="comes with the `zoo` extra: pip install -e '.[zoo]'")
pytest.importorskip("pydantic")

from sr_engine.dropin import accelerate
from sr_engine.infer.measure import Cost, costs, relative_difference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMOKE = os.environ.get("SR_BENCH_SMOKE") == "1"
REPEATS = 1 if SMOKE else 9
ARCHITECTURES = "spandrel.architectures"

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def swinir(width: int, heads: int, groups: int, native: int = 64, scale: int = 4) -> nn.Module:
    return build(
        f"{ARCHITECTURES}.SwinIR.__arch.SwinIR.SwinIR",
        img_size=native,
        embed_dim=width,
        depths=[6] * groups,
        num_heads=[heads] * groups,
        window_size=8,
        mlp_ratio=2,
        upscale=scale,
        upsampler="pixelshuffledirect" if width == 60 else "pixelshuffle",
    )


def hat(width: int, native: int = 64) -> nn.Module:
    """HAT-S at width 144, HAT at 180."""
    return build(
        f"{ARCHITECTURES}.HAT.__arch.HAT.HAT",
        img_size=native,
        embed_dim=width,
        depths=[6] * 6,
        num_heads=[6] * 6,
        window_size=16,
        compress_ratio=24 if width == 144 else 3,
        squeeze_factor=24 if width == 144 else 30,
        conv_scale=0.01,
        overlap_ratio=0.5,
        mlp_ratio=2,
        upscale=4,
        upsampler="pixelshuffle",
        resi_connection="1conv",
    )


def dat_light() -> nn.Module:
    return build(
        f"{ARCHITECTURES}.DAT.__arch.DAT.DAT",
        img_size=64,
        embed_dim=60,
        split_size=[8, 32],
        depth=[18],
        num_heads=[6],
        expansion_factor=2,
        resi_connection="3conv",
        upscale=4,
        upsampler="pixelshuffledirect",
    )


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "SwinIR-light": lambda native: swinir(60, 6, 4, native),
    "SwinIR": lambda native: swinir(180, 6, 6, native),
    "SwinIR-x2": lambda native: swinir(180, 6, 6, native, 2),
    "HAT-S": lambda native: hat(144, native),
    "HAT": lambda native: hat(180, native),
    "DAT-light": lambda _: dat_light(),
}
ON_CPU = [
    ("SwinIR-light", (64, 64)),
    ("SwinIR-light", (72, 88)),
    ("SwinIR-light", (128, 128)),
    ("SwinIR", (64, 64)),
    ("SwinIR", (128, 128)),
    ("SwinIR-x2", (128, 128)),
    ("HAT-S", (64, 64)),
    ("HAT-S", (128, 128)),
    ("DAT-light", (64, 64)),
]
ON_GPU = [(name, (256, 256)) for name in NETWORKS if name != "SwinIR-x2"] + [
    ("SwinIR", (250, 250)),
    ("HAT", (250, 250)),
]


def cases(listed: list[tuple[str, tuple[int, int]]]) -> list[Any]:
    return [pytest.param(name, size, id=f"{name}-{size[0]}x{size[1]}") for name, size in listed]


def build(path: str, **arguments: Any) -> nn.Module:
    """A network with a few blocks less in a smoke run, its weights far from their initial values."""
    module, _, name = path.rpartition(".")
    if SMOKE:
        arguments = {
            key: value[:1] if key in ("depths", "depth", "num_heads") else value for key, value in arguments.items()
        }
    torch.manual_seed(0)
    network = getattr(import_module(module), name)(**arguments)
    with torch.no_grad():
        for label, parameter in network.named_parameters():
            if label.endswith("relative_position_bias_table"):
                parameter.normal_(0, 1.5)
    return network.to(DEVICE)


def pair(name: str, native: int) -> tuple[nn.Module, nn.Module]:
    """The original and its accelerated copy."""
    original = NETWORKS[name](native)
    fused, report = accelerate(copy.deepcopy(original))
    print(f"\n{name}: {report.summary()}")
    assert report.swapped
    assert not report.left
    return original, fused


def show(record: Callable[..., None], before: Cost, after: Cost, difference: float, ours: Callable[[], Any]) -> None:
    ratio, memory = before.seconds / after.seconds, before.peak_bytes / after.peak_bytes
    print(
        f"  original {before.seconds * 1e3:9.1f} ms {before.peak_bytes / 2**20:8.1f} MB\n"
        f"  ours     {after.seconds * 1e3:9.1f} ms {after.peak_bytes / 2**20:8.1f} MB   "
        f"{ratio:.2f}x as fast, {memory:.2f}x less memory, differs by {difference:.1e}"
    )
    record(
        {"original": before.seconds, "ours": after.seconds},
        DEVICE,
        ours=ours,
        megabytes={"original": round(before.peak_bytes / 2**20, 2), "ours": round(after.peak_bytes / 2**20, 2)},
        difference=difference,
    )


@pytest.mark.parametrize(("name", "size"), cases(ON_GPU if DEVICE == "cuda" else ON_CPU))
def test_inference(record: Callable[..., None], name: str, size: tuple[int, int]) -> None:
    native = 256 if DEVICE == "cuda" else 128 if size == (128, 128) else 64
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    networks = [network.eval().to(dtype) for network in pair(name, native)]
    x = torch.rand(1, 3, *size).to(DEVICE, dtype)

    def run(network: nn.Module) -> Callable[[], Tensor]:
        def call() -> Tensor:
            with torch.inference_mode():
                return network(x)

        return call

    runs = [run(network) for network in networks]
    difference = relative_difference(*(call().float() for call in runs))
    assert difference <= (0.05 if dtype == torch.bfloat16 else 1e-5)
    before, after = costs(runs, torch.device(DEVICE), repeats=REPEATS, budget=60)
    show(record, before, after, difference, runs[1])


TRAINING = (
    [("SwinIR-light", 8, 64), ("SwinIR", 8, 64), ("HAT", 4, 64)] if DEVICE == "cuda" else [("SwinIR-light", 1, 64)]
)


@pytest.mark.parametrize(("name", "batch", "side"), TRAINING)
def test_training_step(record: Callable[..., None], name: str, batch: int, side: int) -> None:
    """Forward, loss and backward at the native size; bfloat16 by autocast on a GPU, float32 on a CPU."""
    networks = [network.train() for network in pair(name, side)]
    x = torch.rand(batch, 3, side, side, device=DEVICE)
    target = torch.rand(batch, 3, 4 * side, 4 * side, device=DEVICE)

    def step(network: nn.Module) -> Callable[[], None]:
        def call() -> None:
            network.zero_grad(set_to_none=True)
            with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
                loss = (network(x).float() - target).abs().mean()
            loss.backward()

        return call

    before, after = costs([step(network) for network in networks], torch.device(DEVICE), repeats=REPEATS, budget=60)
    show(record, before, after, 0.0, step(networks[1]))
