"""Whole public networks before and after `accelerate`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sr_engine.dropin import Report, accelerate, restore
from sr_engine.dropin.families.rectangles import free_tables
from tests.zoo.modules import randomise

OUTPUT_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
EXACT_TOLERANCE = 1e-9  # of the float64 output, where rounding explains nothing


def check_network(
    network: nn.Module,
    layers: int,
    sizes: Sequence[tuple[int, int]],
    *,
    excite: Callable[[Any], None] | None = None,
    channels: int = 3,
) -> Report:
    """A network with strong random weights computes the same after `accelerate`, and is itself again after `restore`.

    Outputs in float32 at every size with batch 1 and 2; the output and gradients of the input and of every parameter in
    float64 at the last size; each tensor relative to its largest value. A network that rounding alone moves by more may
    differ by twice as much as its float32 output does from its float64 output. Gradients that are zero but for
    rounding, as that of what shifts a whole bias table, need only be as small again.

    Args:
        layers: how many layers must be swapped, none left.
        sizes: (height, width) of inputs: the native one, then at least three others; the last one small.
        excite: strengthens tables that `randomise` cannot (those a small network computes).
    """
    randomise(network)
    if excite is not None:
        excite(network)
    network.eval()
    inputs = [torch.rand(batch, channels, *size) for size in sizes for batch in (1, 2)]
    keys, classes = list(network.state_dict()), [type(module) for module in network.modules()]
    before = _outputs(network, inputs)
    gradients = _gradients(network, inputs[-1])

    same, report = accelerate(network)
    assert same is network
    assert not report.left, str(report)
    assert len(report.swapped) == layers, str(report)
    assert list(network.state_dict()) == keys
    errors = [_error(expected, actual) for expected, actual in zip(before, _outputs(network, inputs), strict=True)]
    rounding = 1e-12 * max(grad.abs().max().item() for grad in gradients.values())
    for name, actual in _gradients(network, inputs[-1]).items():
        error = _error(gradients[name], actual, rounding)
        assert error <= (EXACT_TOLERANCE if name == "output" else GRADIENT_TOLERANCE), (name, error)

    restore(network)
    assert [type(module) for module in network.modules()] == classes
    assert all(torch.equal(a, b) for a, b in zip(before, _outputs(network, inputs), strict=True))
    for x, expected, error in zip(inputs, before, errors, strict=True):
        if error > OUTPUT_TOLERANCE:
            own = _error(_outputs(network.double(), [x.double()])[0], expected.double())
            assert error <= 2 * own, (tuple(x.shape), error, own)
    return report


def check_fork(network: Any, fork: Callable[[Any], str], layer: Any, name: str) -> None:
    """A layer that `fork` changes to another convention stays as it is, for the reason that `fork` returns."""
    x = torch.rand(1, 3, 16, 16)
    reason = fork(layer)
    expected = network(x)
    _, report = accelerate(network)
    assert [(left.name, left.reason) for left in report.left] == [(name, reason)]
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def sharpen(network: nn.Module) -> None:
    """Temperatures at which the cosines of many pixels matter."""
    for module in network.modules():
        if isinstance(temperature := getattr(module, "temperature", None), Tensor):
            temperature.data.uniform_(5, 15)


def sharpen_and_free(network: nn.Module) -> None:
    """And position tables of independent entries."""
    sharpen(network)
    for module in network.modules():
        if isinstance(branches := getattr(module, "attns", None), nn.ModuleList):
            free_tables(list(branches))


def _outputs(network: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [network(x) for x in inputs]


def _gradients(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output and, of a random projection of it, gradients, in float64; the network's own precision is put back."""
    network.double()
    x = x.double().requires_grad_()
    out = network(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    leaves = {"input": x, **dict(network.named_parameters())}
    grads = torch.autograd.grad(out, list(leaves.values()), weights, allow_unused=True)
    network.float()
    return {"output": out.detach(), **{n: grad for n, grad in zip(leaves, grads, strict=True) if grad is not None}}


def _error(expected: Tensor, actual: Tensor, rounding: float = 0.0) -> float:
    """Relative to the largest expected value; 0 where both are below `rounding`."""
    if max(expected.abs().max().item(), actual.abs().max().item()) <= rounding:
        return 0.0
    return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()
