"""What the content-aware parts of the generator cost, and what routing saves.

    pytest bench/test_content_parts.py --benchmark-only -s

The variants of one table are different networks, so that only the one with all parts is checked: against itself in
float64 before its branches were folded. Budgets on 2 CPU cores: the analyzer 3 % and all parts 10 % of tiny, the
analyzer 1 % of base; the attention branch at half of the windows takes 55 % of what it takes at all of them.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("pydantic", reason="the generator is described with pydantic: pip install pydantic")

from bench.devices import SMOKE, case, place
from bench.peers import bytes_of
from bench.race import Case
from sr_engine.layers.blocks import MixStage
from sr_engine.layers.routing import hardest_mask, numbers
from sr_engine.models.generator import Generator

OFF = {"steer": False, "film": False, "gate": False}
PARTS = {"film": {"film": True}, "steer": {"steer": True}, "gate": {"gate": True}}
# Against float64, of the largest value. On a CUDA device convolutions run in TF32.
TOLERANCE = {"cpu": 1e-4, "cuda": 2e-2}


def generator(preset: str, device: str, **switches: bool) -> Generator:
    """A generator in the layout and on the device it runs in, every part of it awake."""
    torch.manual_seed(0)
    net = Generator(scale=4, preset=preset, **{**OFF, **switches})  # pyright: ignore[reportArgumentType]
    for parameter in net.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.01)
    return net.to(place(device)).to(memory_format=torch.channels_last)


def variants(preset: str, device: str) -> dict[str, Generator]:
    """Without any part, with each alone, and with all."""
    preset = "small" if SMOKE and preset == "base" else preset
    attends = preset in ("small", "base", "large")
    parts = {name: on for name, on in PARTS.items() if attends or name != "gate"}
    everything = dict.fromkeys(parts, True)
    return {
        "off": generator(preset, device),
        **{name: generator(preset, device, **on) for name, on in parts.items()},
        "all": generator(preset, device, **everything),
    }


def rand(device: str, *shape: int) -> Tensor:
    return torch.rand(shape, device=place(device)).contiguous(memory_format=torch.channels_last)


def described(title: str, device: str, **fields: Any) -> Case:
    known: dict[str, Any] = {"ours": "all", "baseline": "off"} | fields
    return Case("content_parts", title, device=device, **known)


def both(*rows: tuple[Any, ...], quick: Any = None) -> list[Any]:
    """Each row on a CPU and on a CUDA device."""
    return [
        case(device, device, *row, id="-".join(map(str, row)), quick=row == quick)
        for device in ("cpu", "cuda")
        for row in rows
    ]


@pytest.mark.parametrize(
    ("device", "preset", "side"), both(("nano", 256), ("tiny", 256), ("base", 128), quick=("nano", 256))
)
def test_inference(race, device, preset, side):
    x = rand(device, 1, 3, *[16 if SMOKE else side] * 2)
    trained = {name: net.eval() for name, net in variants(preset, device).items()}
    exact = copy.deepcopy(trained["all"]).double()
    nets = {name: net.fold() for name, net in trained.items()}
    analyzer = nets["all"].analyzer
    assert analyzer is not None
    race(
        described(f"{preset}, {side}x{side}", device),
        {**{name: lambda net=net: net(x) for name, net in nets.items()}, "analyzer alone": lambda: analyzer(x)},
        reference=lambda: exact(x.double()),
        tolerance=TOLERANCE[device],
        loose=dict.fromkeys([name for name in nets if name != "all"] + ["analyzer alone"]),
    )


@pytest.mark.parametrize(("device", "preset"), both(("nano",), ("tiny",)))
def test_training_step(race, device, preset):
    """Forward, loss and backward, without the optimiser, which sees a few parameters more."""
    shape = (2, 3, 16, 16) if SMOKE else (16, 3, 48, 48)
    x = rand(device, *shape)
    target = rand(device, shape[0], 3, 4 * shape[2], 4 * shape[3])
    nets = variants(preset, device)

    def step(net: nn.Module) -> Callable[[], tuple[Tensor, Tensor]]:
        first = next(net.parameters())

        def call() -> tuple[Tensor, Tensor]:
            net.zero_grad(set_to_none=True)
            loss = (net(x) - target).abs().mean()
            loss.backward()
            assert first.grad is not None
            return loss, first.grad

        return call

    def exact() -> tuple[Tensor, Tensor]:
        net = copy.deepcopy(nets["all"]).double()
        loss = (net(x.double()) - target.double()).abs().mean()
        return loss, torch.autograd.grad(loss, next(net.parameters()))[0]

    analyzer = nets["all"].analyzer
    assert analyzer is not None
    race(
        described(f"{preset}, 16 patches of 48x48", device, kind="training step"),
        {**{name: step(net) for name, net in nets.items()}, "analyzer alone": lambda: analyzer(x)},
        reference=exact,
        tolerance=TOLERANCE[device],
        loose=dict.fromkeys([name for name in nets if name != "all"] + ["analyzer alone"]),
    )


@pytest.mark.parametrize(("device", "windows"), both((8,), (16,), quick=(16,)))
def test_attention_of_a_share_of_windows(race, device, windows):
    """The attention branch of small: norm, qkv, attention, projection; with what choosing and gathering cost."""
    net = generator("small", device, gate=True).eval()
    stage = net.body[0]
    assert isinstance(stage, MixStage)
    attention = stage.attention
    assert attention is not None
    windows_run = 4 if SMOKE else windows
    side = windows_run * attention.window
    x = rand(device, 1, 48, side, side)
    difficulty = torch.rand(1, 2, windows_run, windows_run, device=x.device)

    def branch(share: float) -> Callable[[], Tensor]:
        def call() -> Tensor:
            gate = stage.window_gate(difficulty)
            return attention(x, gate, numbers(share, gate))

        return call

    def exact() -> Tensor:
        """All windows, of which only the hardest half is left."""
        gate = stage.window_gate(difficulty)
        assert gate is not None
        chosen = hardest_mask(gate, 0.5)
        assert int(chosen.sum()) == windows_run**2 // 2
        pixels = chosen.repeat_interleave(attention.window, 2).repeat_interleave(attention.window, 3)
        return torch.where(pixels, branch(1.0)(), 0)

    # The branch reads its map and writes another of that size.
    race(
        described(
            f"attention of half of {windows**2} windows",
            device,
            ours="half",
            baseline="dense",
            moved=2 * bytes_of(x),
            headline=windows == 16,
        ),
        {"dense": branch(1.0), "half": branch(0.5), "quarter": branch(0.25)},
        reference=exact,
        tolerance=TOLERANCE[device],
        loose={"dense": None, "quarter": None},
    )
