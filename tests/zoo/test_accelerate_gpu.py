"""Accelerated networks on a GPU: Triton serves them, in every precision, compiled and trained."""

import copy
from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import public, randomise
from tests.zoo.test_accelerate_swinir import make_swinir

hat = public("spandrel.architectures.HAT.__arch.HAT")

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")]


def make_hat() -> Any:
    return hat.HAT(
        img_size=32, embed_dim=60, depths=(2,), num_heads=(6,), window_size=16, squeeze_factor=6, mlp_ratio=2
    )


@pytest.fixture(params=[make_swinir, make_hat])
def network(request: pytest.FixtureRequest) -> Any:
    network = request.param()
    randomise(network)
    return network.eval().cuda()


def error(expected: torch.Tensor, actual: torch.Tensor) -> float:
    return ((actual.float() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 0.1), (torch.float16, 0.02)])
@pytest.mark.parametrize("size", [(32, 32), (48, 80), (37, 50)])
def test_output(network, size, dtype, tolerance):
    x = torch.rand(2, 3, *size, device="cuda")
    with torch.no_grad():
        expected = network(x)
        _, report = accelerate(network)
        assert not report.left, str(report)
        assert error(expected, network.to(dtype)(x.to(dtype))) <= tolerance


def test_gradients(network):
    x = torch.rand(1, 3, 32, 48, device="cuda")
    twin = copy.deepcopy(network)
    accelerate(network)
    for trained in (network, twin):
        trained(x).square().mean().backward()
    largest = max(p.grad.abs().max().item() for p in twin.parameters() if p.grad is not None)
    for (name, ours), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        if theirs.grad is not None:
            unit = max(theirs.grad.abs().max().item(), 1e-3 * largest)
            assert (ours.grad - theirs.grad).abs().max().item() <= 1e-4 * unit, name


def test_compiled(network):
    x = torch.rand(1, 3, 32, 32, device="cuda")
    with torch.no_grad():
        expected = network(x)
        accelerate(network)
        assert error(expected, torch.compile(network)(x)) <= 2e-5


def test_random_numbers_go_on_as_if_nothing_had_happened(network):
    before = torch.cuda.get_rng_state()
    accelerate(network)
    assert torch.equal(torch.cuda.get_rng_state(), before)
