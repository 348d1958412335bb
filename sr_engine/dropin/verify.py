"""One forward of each kind of layer beside its original, on a copy with weights that show a wrong bias or mask."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sr_engine.dropin.fused import Fused, NotExactError, swap, unswap
from sr_engine.dropin.sites import Site

# Float32 kernels of a GPU round a little more where a cosine head's factor is 100.
TOLERANCE = {"cpu": 1e-5}
TOLERANCE_ELSEWHERE = 3e-5


def compare(site: Site, adapter: type[Fused]) -> float:
    """The largest difference between the original layer and the fused one, relative to the largest value.

    Raises:
        NotExactError: it is above what rounding explains, or one of the two fails on the adapter's trials.
    """
    twin = _twin(site.module)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _exact_products():
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed every GPU
        randomise(twin)
        adapter.excite(twin)
        twin.to(site.device)
        trials = adapter.trials(site)
        expected = [_run("the original", twin, args) for args in trials]
        swap(twin, adapter)
        actual = [_run("the fused layer", twin, args) for args in trials]
        unswap(twin)
    error = max((_difference(a, b) for a, b in zip(expected, actual, strict=True)), default=0.0)
    allowed = TOLERANCE.get(site.device.type, TOLERANCE_ELSEWHERE)
    if not error <= allowed:
        raise NotExactError(f"its output differs from the original's by {error:.1e} (allowed: {allowed:.0e})")
    return error


def _twin(module: nn.Module) -> nn.Module:
    """A float32 copy on the CPU in eval mode, without the hooks: those are for the user's own passes."""
    try:
        twin = copy.deepcopy(module).float().cpu().eval().requires_grad_(False)
    except Exception as error:
        raise NotExactError(f"it cannot be copied for the comparison: {type(error).__name__}: {error}") from error
    for part in twin.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks):
            hooks.clear()
    return twin


def randomise(module: nn.Module) -> None:
    """Weights that keep unit variance, bias tables of standard deviation 1.5, and norms and statistics off 1 and 0."""
    for name, parameter in module.named_parameters():
        last = name.rpartition(".")[2]
        if "bias_table" in last or "position" in last:
            parameter.normal_(0, 1.5)
        elif last == "logit_scale":
            parameter.normal_(math.log(10), 0.5)
        elif parameter.dim() > 1:
            parameter.normal_(0, max(1, parameter[:1].numel()) ** -0.5)
        else:
            parameter.normal_(1.0 if last == "weight" else 0.0, 0.3)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)


@contextmanager
def _exact_products() -> Iterator[None]:
    """No TF32 and no autocast: rounding would hide, or fake, a difference."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _run(who: str, module: nn.Module, args: tuple[Any, ...]) -> Any:
    try:
        return module(*(arg.clone() if isinstance(arg, Tensor) else arg for arg in args))
    except Exception as error:  # whatever a third-party forward raises, the layer stays as it is
        raise NotExactError(f"{who} failed on a test input: {type(error).__name__}: {error}") from error


def _difference(expected: Any, actual: Any) -> float:
    if isinstance(expected, Tensor):
        if not isinstance(actual, Tensor) or expected.shape != actual.shape:
            return math.inf
        return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()
    if isinstance(expected, list | tuple):
        return max((_difference(a, b) for a, b in zip(expected, actual, strict=True)), default=0.0)
    return 0.0
