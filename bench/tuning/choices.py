"""What can be chosen: every kernel of a pass, what its table says, and what else could be tried.

An operation asks a function of its own (`choose`, `best`) how to cut a kernel. Here that function is replaced for as
long as a pass is made, by one that notes who asked and answers with the configuration that is to be tried.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any
from unittest import mock

from bench.tuning.shapes import Pass, Place, Shape
from sr_kernels.launch import Launch


@dataclass(frozen=True)
class Hook:
    """Where an operation chooses: a function of `module`, and those beside it that say what and from what."""

    module: ModuleType
    name: str = "choose"
    static: str = "static"
    candidates: str = "candidates"
    makes: bool = False  # whether the function is handed what makes the launch, and returns that


@dataclass(frozen=True)
class Choice:
    """One kernel of one pass of one shape.

    `group` is what the table distinguishes; shapes of one group have one entry. `candidates` are all but the default,
    those that differ from it least first.
    """

    shape: Shape
    passing: str
    kernel: str
    group: tuple[Any, ...]
    default: Any
    candidates: tuple[Any, ...]

    @property
    def label(self) -> str:
        return f"{self.shape.op} {self.shape.name} {self.passing} {self.kernel}"


@lru_cache
def hooks(op: str) -> tuple[Hook, ...]:
    """Of an operation. Raises ImportError where there is no Triton."""
    if op == "window_attention":
        from sr_kernels.window_attention import backward_sums, configs

        return Hook(configs, "best", makes=True), Hook(backward_sums)
    if op == "magic_resample":
        from sr_kernels.magic_resample import configs

        return Hook(configs), Hook(configs, "choose_tile", "static_tile", "candidate_tiles")
    if op == "content_stats":
        from sr_kernels.content_stats import tiling
    else:
        from sr_kernels.channel_attention import tiling
    return (Hook(tiling),)


@contextmanager
def choosing(op: str, forced: Mapping[str, Any], asked: dict[str, tuple[Any, ...]] | None = None) -> Iterator[None]:
    """While it lasts, kernels of `op` are cut as `forced` says, others as always.

    `asked` collects by kernel: group, default and candidates.
    """
    with ExitStack() as stack:
        for hook in hooks(op):
            stack.enter_context(mock.patch.object(hook.module, hook.name, _replacement(hook, forced, asked)))
        yield


def _replacement(hook: Hook, forced: Mapping[str, Any], asked: dict[str, tuple[Any, ...]] | None) -> Any:
    module = hook.module

    def choose(kernel: str, problem: Any) -> Any:
        default = getattr(module, hook.static)(kernel, problem)
        if asked is not None and kernel not in asked:
            group = (problem,) if hook.makes else (kernel, problem)
            candidates = [c for c in dict.fromkeys(getattr(module, hook.candidates)(kernel, problem)) if c != default]
            candidates.sort(key=lambda candidate: _distance(candidate, default))
            asked[kernel] = module.shape_class(*group), default, tuple(candidates)
        return forced.get(kernel, default)

    def best(kernel: str, problem: Any, make: Any) -> Launch:
        return replace(make(choose(kernel, problem)), choice=kernel)

    return best if hook.makes else choose


def _distance(one: Any, other: Any) -> int:
    """In how many fields two configurations differ."""
    given = asdict(other)
    return sum(value != given[name] for name, value in asdict(one).items())


def choices(shape: Shape, place: Place) -> list[Choice]:
    """All kernels of a shape that can be cut in more than one way, in the order in which they run."""
    found = []
    with choosing(shape.op, {}):
        passes = shape.at(place)
    for name, start in passes.items():
        asked: dict[str, tuple[Any, ...]] = {}
        with choosing(shape.op, {}, asked):
            place.finish(start())
        found += [Choice(shape, name, kernel, *answer) for kernel, answer in asked.items() if answer[2]]
    return found


def attempt(
    op: str, start: Pass, place: Place, forced: Mapping[str, Any], kernel: str = ""
) -> tuple[Any, list[Launch]]:
    """What a pass returns with kernels cut as `forced` says, and the launches of `kernel` in it."""
    seen: list[Launch] = []
    with choosing(op, forced):
        result = place.finish(start(), seen.append)
    return result, [launch for launch in seen if launch.choice == kernel]
