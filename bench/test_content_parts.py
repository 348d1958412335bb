"""What the content-aware parts of the generator cost, and what routing saves; on a GPU if there is one.

`SR_BENCH_REPEATS=30 pytest bench/test_content_parts.py --benchmark-only -s`. Every variant of one table takes its turn
in each round of one run, and a percentage is the median over rounds of its ratio to the variant without any part, so
that a machine's drift cancels. Budgets on 2 CPU cores: the analyzer 3 % and all parts 10 % of tiny, the analyzer 1 % of
base; the attention branch at half of the windows takes 55 % of what it takes at all of them.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("pydantic")

from sr_engine.layers.blocks import MixStage
from sr_engine.layers.routing import numbers
from sr_engine.models.generator import Generator

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
REPEATS = int(os.environ.get("SR_BENCH_REPEATS", "15"))
OFF = {"steer": False, "film": False, "gate": False}
PARTS = {"film": {"film": True}, "steer": {"steer": True}, "gate": {"gate": True}}

Call = Callable[[], Any]


def generator(preset: str, **switches: bool) -> Generator:
    """A generator in the layout and on the device it runs in, every part of it awake."""
    torch.manual_seed(0)
    net = Generator(scale=4, preset=preset, **{**OFF, **switches})  # pyright: ignore[reportArgumentType]
    for parameter in net.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.01)
    return net.to(DEVICE).to(memory_format=torch.channels_last)


def variants(preset: str) -> dict[str, Generator]:
    """Without any part, with each alone, and with all."""
    attends = preset in ("small", "base", "large")
    parts = {name: on for name, on in PARTS.items() if attends or name != "gate"}
    everything = dict.fromkeys(parts, True)
    return {
        "off": generator(preset),
        **{name: generator(preset, **on) for name, on in parts.items()},
        "all": generator(preset, **everything),
    }


def compare(calls: Mapping[str, Call], record: Callable[..., None], *, to: str, **alone: Call) -> dict[str, float]:
    """Time calls in turns, print and keep each one's share of `to`; `alone` are parts of it, timed beside it."""
    everything = {**calls, **alone}
    taken: dict[str, list[float]] = {name: [] for name in everything}
    for repeat in range(REPEATS + 1):
        for name, call in everything.items():
            _wait()
            start = time.perf_counter()
            call()
            _wait()
            if repeat:  # the first is to warm up
                taken[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    shares = {
        name: statistics.median(one / other for one, other in zip(times, taken[to], strict=True))
        for name, times in taken.items()
    }
    print()
    for name, seconds in medians.items():
        change = shares[name] if name in alone else shares[name] - 1
        print(f"  {name:<18}{seconds * 1e3:9.2f} ms {100 * change:+7.1f} %{' of it' if name in alone else ''}")
    record(medians, DEVICE, ours=next(iter(calls.values())), percent={k: round(100 * v, 2) for k, v in shares.items()})
    return shares


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


@pytest.mark.parametrize(("preset", "side"), [("nano", 256), ("tiny", 256), ("base", 128)])
def test_inference(record: Callable[..., None], preset: str, side: int) -> None:
    x = torch.rand(1, 3, side, side, device=DEVICE).contiguous(memory_format=torch.channels_last)
    nets = {name: net.eval().fold() for name, net in variants(preset).items()}

    def run(net: nn.Module) -> Call:
        def call() -> Tensor:
            with torch.no_grad():
                return net(x)

        return call

    analyzer = nets["all"].analyzer
    assert analyzer is not None
    compare({name: run(net) for name, net in nets.items()}, record, to="off", analyzer=run(analyzer))


@pytest.mark.parametrize(("preset", "shape"), [("nano", (16, 3, 48, 48)), ("tiny", (16, 3, 48, 48))])
def test_training_step(record: Callable[..., None], preset: str, shape: tuple[int, ...]) -> None:
    """Forward, loss and backward, without the optimiser, which sees a few parameters more."""
    x = torch.rand(shape, device=DEVICE).contiguous(memory_format=torch.channels_last)
    target = torch.rand(shape[0], 3, 4 * shape[2], 4 * shape[3], device=DEVICE)
    nets = variants(preset)

    def step(net: nn.Module) -> Call:
        def call() -> None:
            net.zero_grad(set_to_none=True)
            (net(x) - target).abs().mean().backward()

        return call

    analyzer = nets["all"].analyzer
    assert analyzer is not None
    calls = {name: step(net) for name, net in nets.items()}
    compare(calls, record, to="off", analyzer=lambda: analyzer(x))


@pytest.mark.parametrize("windows", [8, 16], ids=lambda n: f"{n * n}windows")
def test_attention_of_a_share_of_windows(record: Callable[..., None], windows: int) -> None:
    """The attention branch of small: norm, qkv, attention, projection; with what choosing and gathering cost."""
    net = generator("small", gate=True).eval()
    stage = net.body[0]
    assert isinstance(stage, MixStage)
    attention = stage.attention
    assert attention is not None
    side = windows * attention.window
    x = torch.rand(1, 48, side, side, device=DEVICE).contiguous(memory_format=torch.channels_last)
    difficulty = torch.rand(1, 2, windows, windows, device=DEVICE)

    def branch(share: float) -> Call:
        def call() -> Tensor:
            with torch.no_grad():
                gate = stage.window_gate(difficulty)
                return attention(x, gate, numbers(share, gate))

        return call

    dense, half = branch(1.0)(), branch(0.5)()
    chosen = half.abs().amax(1, keepdim=True) > 0
    torch.testing.assert_close(half, torch.where(chosen, dense, 0), rtol=1e-4, atol=1e-5)
    compare({"dense": branch(1.0), "half": branch(0.5), "quarter": branch(0.25)}, record, to="dense")
