"""Compiles candidates in several processes, for what they leave in Triton's cache on disk. Needs no GPU."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing import TimeoutError, get_context
from typing import Any

import torch

from bench.race import reason
from bench.tuning.choices import Choice, attempt
from bench.tuning.shapes import Pass, Place, Shape
from sr_kernels.launch import Launch


@dataclass(frozen=True)
class Task:
    """One configuration of one kernel."""

    shape: int  # number in SHAPES: what a shape is made by cannot be sent to another process
    passing: str
    kernel: str
    config: Any


@dataclass(frozen=True)
class Outcome:
    """Shared memory that the kernel takes, in bytes, or why it does not compile."""

    task: Task
    shared: int = 0
    error: str | None = None


class Target:
    """Stands in for the driver of a GPU of this architecture while kernels are compiled."""

    def __init__(self, arch: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target = GPUTarget("cuda", arch, 32)

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int) -> int:
        return 0


def compile_launch(launch: Launch) -> int:
    """Compile as `launch.run()` would, and run nothing; the bytes of shared memory that the kernel takes."""
    given = {**launch.arguments, **launch.constants, **launch.options}
    return launch.kernel.warmup(**given, enable_fp_fusion=True, grid=(1,)).metadata.shared


def begin(arch: int) -> None:
    """In a process that compiles."""
    os.environ.pop("TRITON_INTERPRET", None)
    torch.set_num_threads(1)
    import triton

    triton.runtime.driver.set_active(Target(arch))  # type: ignore[arg-type]


@cache
def _passes(shape: int, place: Place) -> dict[str, Pass]:
    return shapes()[shape].at(place)


def shapes() -> tuple[Shape, ...]:
    from bench.tuning.shapes import SHAPES

    return SHAPES


def compile_task(given: tuple[Task, Place]) -> Outcome:
    """In such a process."""
    task, place = given
    try:
        start = _passes(task.shape, place)[task.passing]
        _, launches = attempt(shapes()[task.shape].op, start, place, {task.kernel: task.config}, task.kernel)
        return Outcome(task, max(compile_launch(launch) for launch in launches))
    except Exception as error:  # whatever a compiler says of a configuration it does not take
        return Outcome(task, error=reason(error))


def tasks_of(found: list[Choice], place: Place) -> dict[Task, list[tuple[Choice, Any]]]:
    """What must be compiled, and for which configurations of which choices: many differ in the number of programs only.

    In fair order: the defaults, then the first candidate of every choice, then the second.
    """
    numbers = {shape: number for number, shape in enumerate(shapes())}
    tasks: dict[Task, list[tuple[Choice, Any]]] = {}
    known: dict[str, Task] = {}
    for turn in range(1 + max((len(choice.candidates) for choice in found), default=0)):
        for choice in found:
            for config in (choice.default, *choice.candidates)[turn : turn + 1]:
                task = Task(numbers[choice.shape], choice.passing, choice.kernel, config)
                task = known.setdefault(_specialised(task, place), task)
                tasks.setdefault(task, []).append((choice, config))
    return tasks


def _specialised(task: Task, place: Place) -> str:
    """What Triton compiles for: constants; of arguments the type, whether 16 divides them, whether they are 1."""
    try:
        start = _passes(task.shape, place)[task.passing]
        _, launches = attempt(shapes()[task.shape].op, start, place, {task.kernel: task.config}, task.kernel)
    except Exception:  # it will be compiled, and say what is wrong with it
        return repr(task)
    return repr(
        [
            (one.kernel.__name__, one.constants, one.options, [(n, _kind(x)) for n, x in one.arguments.items()])
            for one in launches
        ]
    )


def _kind(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x.dtype, x.data_ptr() % 16
    return (x == 1, x % 16 == 0, abs(x) < 2**31) if isinstance(x, int) else type(x)


def compile_all(tasks: Iterable[Task], place: Place, processes: int, deadline: float) -> Iterator[Outcome]:
    """Outcomes as they come, until all are there or `time.monotonic()` is past `deadline`."""
    tasks = list(tasks)
    with get_context("spawn").Pool(processes, begin, (place.arch,)) as pool:  # ends its processes when it is left
        coming = pool.imap_unordered(compile_task, [(task, place) for task in tasks])
        for _ in tasks:
            try:
                yield coming.next(max(0.01, deadline - time.monotonic()))
            except TimeoutError:
                return
