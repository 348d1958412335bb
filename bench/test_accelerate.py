"""Whole networks of other people before and after `accelerate`: time and peak memory, forward and training step.

    pytest bench/test_accelerate.py --benchmark-only -s          with the `zoo` extra

Batch 1 in evaluation. On a CPU float32; every case is measured in a process of its own, since what the allocator kept
of an earlier case moves the ratio. On a GPU bfloat16, by autocast in training. SR_BENCH_FULL=1 adds torch.compile of
the original, if it is done within a minute.

Targets, times as fast: on 2 CPU cores SwinIR-light 1.6 at 64x64 and 1.8 at 72x88, HAT-S 1.5, DAT-light 1.3, peak
memory of SwinIR and HAT at 128x128 1.5 times lower; on an H100 SwinIR 1.6, SwinIR-light 2.2, HAT 2, training step of
SwinIR 1.5.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("spandrel", reason="comes with the `zoo` extra: pip install -e '.[zoo]'")
pytest.importorskip("pydantic")

from bench import devices, machine, networks
from bench.clock import Call
from bench.conftest import QUICK_ROUNDS
from bench.devices import FULL, SMOKE, place
from bench.race import Case, Measured, compete

MESHGRID = "torch.meshgrid"  # the start of what torch warns of in some originals
pytestmark = pytest.mark.filterwarnings(f"ignore:{MESHGRID}:UserWarning")

OURS, BASELINE = "accelerated", "original"
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}
# Of gradients, which sum over all pixels and pass all layers.
TRAINING_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2}

ON_CPU = [
    ("SwinIR-light", (64, 64)),
    ("SwinIR-light", (72, 88)),
    ("SwinIR-light", (128, 128)),
    ("SwinIR", (64, 64)),
    ("SwinIR", (128, 128)),
    ("SwinIR x2", (128, 128)),
    ("HAT-S", (64, 64)),
    ("HAT-S", (128, 128)),
    ("DAT-light", (64, 64)),
]
ON_GPU = [(name, (256, 256)) for name in ("SwinIR-light", "SwinIR", "HAT-S", "HAT", "DAT-light")] + [
    ("SwinIR", (250, 250)),
    ("HAT", (250, 250)),
]
TRAINED = [
    ("cpu", "SwinIR-light", 1),
    ("cuda", "SwinIR-light", 8),
    ("cuda", "SwinIR", 8),
    ("cuda", "HAT", 4),
]
HEADLINES = [("cpu", "SwinIR-light", (64, 64)), ("cpu", "HAT-S", (64, 64))] + [
    ("cuda", name, (256, 256)) for name in ("SwinIR", "HAT")
]

Contestants = dict[str, Call]


def cases() -> list[Any]:
    found = []
    for device, listed in (("cpu", ON_CPU), ("cuda", ON_GPU)):
        for name, size in listed:
            quick = name == "SwinIR-light" and size in ((64, 64), (256, 256))
            label = f"{name.replace(' ', '-')}-{size[0]}x{size[1]}"
            found.append(devices.case(device, device, name, size, id=label, quick=quick))
    return found


def inference(case: Case, name: str, size: tuple[int, int]) -> tuple[Contestants, str]:
    """Forward passes of the original and the accelerated network, and what was swapped."""
    # A CPU takes seconds for a network in half precision, too long for a smoke run.
    where, dtype = place(case.device), torch.float32 if SMOKE else getattr(torch, case.dtype)
    native = 16 if SMOKE else 256 if case.device == "cuda" else 128 if size == (128, 128) else 64
    *both, swapped = networks.pair(name, native, where)
    original, fused = (net.eval().to(dtype) for net in both)
    x = torch.rand(1, 3, *size).to(where, dtype)
    runs: Contestants = {BASELINE: lambda: original(x), OURS: lambda: fused(x)}
    if FULL and case.device == "cuda" and name in ("SwinIR", "HAT"):
        program = networks.compiled(original)
        runs["compiled original"] = lambda: program(x)
    return runs, swapped


def training(case: Case, name: str, batch: int, side: int) -> tuple[Contestants, str]:
    """Training steps without an optimiser: forward, loss, backward. Results are the loss and the first gradient."""
    where = place(case.device)
    *both, swapped = networks.pair(name, side, where)
    x = torch.rand(batch, 3, side, side, device=where)
    target = torch.rand(batch, 3, 4 * side, 4 * side, device=where)

    def step(net: nn.Module) -> Callable[[], tuple[Tensor, Tensor]]:
        def call() -> tuple[Tensor, Tensor]:
            torch.manual_seed(0)  # both skip the same blocks
            with torch.autocast(where, torch.bfloat16, enabled=case.dtype == "bfloat16" and not SMOKE):
                loss = (net(x).float() - target).abs().mean()
            loss.backward()
            first = next(net.parameters()).grad
            assert first is not None
            net.zero_grad(set_to_none=True)  # here, so that every step's peak has all its gradients
            return loss.detach(), first

        return call

    return {label: step(net.train()) for label, net in zip((BASELINE, OURS), both, strict=True)}, swapped


def measure(
    race: Callable[..., Measured], request: pytest.FixtureRequest, case: Case, prepare: Callable[..., Any], *what: Any
) -> None:
    """Race the contestants that `prepare(case, *what)` makes; on a CPU in a process of its own."""
    torch._dynamo.reset()
    tolerance = (TRAINING_TOLERANCE if case.training else TOLERANCE)[case.dtype]
    measured = None
    if case.device == "cpu" and not (SMOKE or devices.COMPILE_ONLY):
        rounds = QUICK_ROUNDS if request.config.getoption("--quick") else None
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            measured = alone.submit(measure_here, case, prepare, what, tolerance, rounds).result()
    contestants, swapped = prepare(case, *what)
    race(case, contestants, tolerance=tolerance, measured=measured, notes={"swapped": swapped})


def measure_here(
    case: Case, prepare: Callable[..., Any], what: tuple[Any, ...], tolerance: float, rounds: int | None
) -> Measured:
    """What the process of a case does."""
    torch.set_num_threads(machine.cores())
    warnings.filterwarnings("ignore", MESHGRID, UserWarning)
    return compete(case, prepare(case, *what)[0], tolerance=tolerance, rounds=rounds)


@pytest.mark.parametrize(("device", "name", "size"), cases())
def test_inference(race, request, device, name, size):
    case = Case(
        "accelerate",
        f"{name} {size[0]}x{size[1]}",
        kind="end to end",
        dtype="bfloat16" if device == "cuda" else "float32",
        device=device,
        ours=OURS,
        baseline=BASELINE,
        headline=(device, name, size) in HEADLINES,
    )
    # In half precision an original takes its native size alone, as its masks stay float32.
    smallest = (16, 24 if device == "cpu" else 16)
    measure(race, request, case, inference, name, smallest if SMOKE else size)


@pytest.mark.parametrize(
    ("device", "name", "batch"), [devices.case(row[0], *row, id=f"{row[1]}-b{row[2]}") for row in TRAINED]
)
def test_training_step(race, request, device, name, batch):
    batch, side = (1, 16) if SMOKE else (batch, 64)
    case = Case(
        "accelerate",
        f"{name} {side}x{side} batch {batch}",
        kind="training step",
        dtype="bfloat16" if device == "cuda" else "float32",
        device=device,
        ours=OURS,
        baseline=BASELINE,
        headline=(device, name) == ("cuda", "SwinIR"),
    )
    measure(race, request, case, training, name, batch, side)
