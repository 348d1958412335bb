"""An iteration of `sr-engine train` beside a bare loop that trains the same network on the same batches.

    pytest bench/test_train_step.py --benchmark-only -s      (on a GPU machine without installing: PYTHONPATH=.:kernels)

The bare loop has what no training can do without: forward, loss, backward, clipping and a fused optimiser, on batches
that lie on the device. The engine has, besides: reading and moving batches (from pictures in memory, or streamed by a
thread or by processes as they are without `in_memory`), the loss bank and its checks, the weight average and the meter.
Batches are those of configs/x4.yml. Both start from equal weights and must have equal losses over three iterations,
of which the last two tell whether the updates are equal; a CUDA graph over three replays more than its warm-up.

Time is that of the wall, over blocks of iterations that take turns: what the host cannot launch in time counts. Goal:
at most 3 % on top of the bare loop.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import devices
from bench.clock import Call, peak_memory, reclaim, wait
from bench.devices import COMPILE_ONLY, SMOKE, place
from bench.race import Case, Measured, reason

pytest.importorskip("pydantic", reason="training needs pydantic")
pytest.importorskip("rich", reason="training needs rich")

from bench.throughput import forward_flops, synthetic, training_config, training_run
from sr_engine.train.graph import _WARM_UP

BARE, ENGINE, GRAPH = "bare loop", "engine", "engine, CUDA graph"
COMPARED = _WARM_UP + 3  # iterations at most: a graph is recorded after so many calls and replayed from then on
BLOCK = {"cpu": 1, "cuda": 20}  # iterations timed together
TURNS = {"cpu": 15, "cuda": 10}
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
OTHERS = {
    "cpu": {"engine, streamed": ("datasets.train.in_memory=false",)},
    "cuda": {
        "engine, streamed": ("datasets.train.in_memory=false",),
        "engine, compiled": ("training.compile=true",),
        GRAPH: ("training.cuda_graph=true",),
    },
}


def cases() -> list[Any]:
    """device, preset."""
    rows = [("cpu", "tiny"), ("cuda", "tiny"), ("cuda", "small"), ("cuda", "base")]
    return [devices.case(*row[:1], *row, id=row[1], quick=row == ("cpu", "tiny")) for row in rows]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic(tmp_path_factory.mktemp("pictures"), count=4 if SMOKE else 24)


@pytest.mark.parametrize(("device", "preset"), cases())
def test_train_step(race, pictures, tmp_path, request, device, preset):
    from sr_engine.train.distributed import join_world

    where = place(device)
    small = ("training.batch_size=2", "training.patch_size=8") if SMOKE else ()
    config = training_config(pictures, f"network_g.preset={'nano' if SMOKE else preset}", *small)
    with ExitStack() as stack:
        world = stack.enter_context(join_world(where))

        def engine(*overrides: str) -> "Engine":
            options = [f"network_g.preset={config.network_g.arguments['preset']}", *small, *overrides]
            return stack.enter_context(Engine(training_config(pictures, *options), tmp_path, world))

        trainer = engine()
        contestants: dict[str, Any] = {BARE: bare_loop(config, tmp_path, world), ENGINE: trainer}
        if not (SMOKE or request.config.getoption("--quick")):
            contestants |= {name: engine(*overrides) for name, overrides in OTHERS[where].items()}
        dtype, size = trainer.run.session.dtype, config.training.batch_size
        case = Case(
            "train_step",
            f"{preset}, batch {size} of {config.training.patch_size}x{config.training.patch_size}, x{config.scale}",
            kind="training step",
            dtype=str(dtype).removeprefix("torch."),
            device=device,
            ours=ENGINE,
            baseline=BARE,
            flops=3 * forward_flops(config) * size,
            headline=preset == "tiny",
            unit="patches",
            per_call=size,
        )
        if COMPILE_ONLY:
            compile_all(contestants)
            return
        found = measure(contestants, where, TOLERANCE[dtype], 2 if SMOKE else TURNS[where])
        paired = zip(found.samples[ENGINE], found.samples[BARE], strict=True)
        overhead = statistics.median(ours / bare for ours, bare in paired) - 1
        notes = {
            "overhead of the engine": f"{overhead:+.1%}",
            "wait for data": f"{trainer.data_wait():.1%} of its time",
        }
        race(case, contestants, measured=found, notes=notes)


def measure(contestants: dict[str, Call], where: str, tolerance: float, turns: int) -> Measured:
    """Losses compared with those of the bare loop, then blocks of iterations in turns, and peak memory."""
    found, expected = Measured(), torch.empty(0)
    for name, step in contestants.items():
        try:
            compared = COMPARED if name in (BARE, GRAPH) else 3
            losses = torch.stack([torch.as_tensor(step()).detach().float().cpu() for _ in range(compared)])
        except Exception as error:  # whatever a compiler throws, or memory that does not suffice
            if name in (BARE, ENGINE):
                raise
            found.dropped[name] = reason(error)
            reclaim(where)
            continue
        expected = losses if name == BARE else expected
        like = expected[:compared]
        found.error[name] = float((losses - like).abs().max() / like.abs().max())
        if not found.error[name] <= tolerance:
            found.dropped[name] = f"losses {losses.tolist()}, expected {like.tolist()}"
        elif name == GRAPH and not step.replays():  # type: ignore[attr-defined]
            found.dropped[name] = "runs as usual: nothing was recorded"
    assert ENGINE not in found.dropped, found.dropped[ENGINE]
    found.samples = {name: [] for name in contestants if name not in found.dropped}
    for turn in range(-1, turns):
        for name, taken in list(found.samples.items())[:: 1 if turn % 2 else -1]:  # nobody always follows the same one
            wait(where)
            start = time.perf_counter()
            for _ in range(BLOCK[where]):
                contestants[name]()
            wait(where)
            if turn >= 0:
                taken.append((time.perf_counter() - start) / BLOCK[where])
    for name in found.samples:
        if name == GRAPH:  # a replay allocates nothing: its memory was taken when it was recorded
            continue
        reclaim(where)
        if (peak := peak_memory(contestants[name], where)) is not None:
            found.memory[name] = peak
    return found


def compile_all(contestants: dict[str, Call]) -> None:
    """Each once; peers may fail."""
    for name, step in contestants.items():
        try:
            step()
        except Exception as error:
            if name in (BARE, ENGINE):
                raise
            print(f"{name} left out: {reason(error)}")


class Engine:
    """The loop of a training run, an iteration a call; returns the loss of the last iteration that has ended."""

    def __init__(self, config: Any, output: Path, world: Any) -> None:
        self.run = training_run(config, output, world)
        self._calls = 0
        self._waits: list[float] = []

    def __enter__(self) -> "Engine":
        self._loader = self.run.loader(self.run.stream()).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._loader.close()

    def __call__(self) -> Tensor:
        meter = self.run.session.meter
        self._calls += 1
        with meter.step():
            self.run.iterate(self._loader)
        if self._calls <= COMPARED:
            self.run.settle()
        elif self._calls % 20 == 0:  # logging.print_every
            self._waits.append(meter.report(self._calls, 0.0).data_wait)
            return torch.zeros(())
        return next(iter(meter.values.values()))[-1] if meter.values else torch.zeros(())

    def replays(self) -> bool:
        """Whether its iterations are replays of a CUDA graph."""
        plain = self.run.session.steps.plain
        return plain is not None and plain.recorded

    def data_wait(self) -> float:
        """Share of its time that it waited for batches."""
        self._waits.append(self.run.session.meter.report(self._calls, 0.0).data_wait)
        return statistics.median(self._waits)


def bare_loop(config: Any, output: Path, world: Any) -> Callable[[], Tensor]:
    """Forward, loss, backward, clipping, optimiser; the first batches of the engine over and over."""
    from sr_engine.losses.inputs import LossInputs

    run = training_run(config, output, world)
    session = run.session
    net, optimizer = session.net_g, session.steps.generator.optimizer
    loss, base = next(iter(session.bank.losses.values())), session.steps.generator.base_lr
    with run.loader(run.stream()) as loader:
        batches = [next(loader).to(world.device, torch.channels_last) for _ in range(COMPARED)]
    rates: Iterator[float] = (session.schedule(it, config.training.total_iter, base) for it in itertools.count())
    turns = itertools.cycle(batches)

    def step() -> Tensor:
        batch, optimizer.param_groups[0]["lr"] = next(turns), next(rates)
        with torch.autocast(world.device.type, session.dtype, enabled=session.dtype != torch.float32):
            sr = net(batch.lr)
        value = loss(LossInputs(sr, batch.hr, batch.lr))
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value.detach()

    return step
