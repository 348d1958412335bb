"""The registered ops under opcheck, torch.compile and torch.export."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

from sr_kernels import functional as K
from sr_kernels.dispatch import Impl
from sr_kernels.magic_resample import op


class Resample(nn.Module):
    gains: Tensor | None
    basis: Tensor | None

    def __init__(self, gains: Tensor | None = None, basis: Tensor | None = None, **arguments: Any):
        super().__init__()
        self.arguments = arguments
        self.register_buffer("gains", gains)
        self.register_buffer("basis", basis)

    def forward(self, x: Tensor) -> Tensor:
        return K.magic_resample(x, gains=self.gains, basis=self.basis, **self.arguments)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("learned", [False, True])
def test_opcheck(learned: bool, layout: torch.memory_format) -> None:
    x = torch.rand(2, 3, 6, 5).contiguous(memory_format=layout).requires_grad_()
    gains = torch.rand(2, 6, 6, 5, requires_grad=True) if learned else None
    opcheck(op.magic_resample, (x, gains, None, [12, 10], "mks2021", "torch"))
    grad = torch.rand(2, 3, 12, 10).contiguous(memory_format=layout)
    opcheck(op.magic_resample_backward, (grad, x, gains, None, "mks2021", "torch"))


@pytest.mark.parametrize(("impl", "backend"), [("torch", "inductor"), ("reference", "aot_eager")])
def test_compile_without_graph_break(impl: Impl, backend: str) -> None:
    x = torch.rand(2, 3, 9, 7, requires_grad=True)
    gains = torch.rand(1, 6, 9, 7, requires_grad=True)

    def function(x: Tensor, gains: Tensor) -> Tensor:
        return 2 * K.magic_resample(x, scale=2, gains=gains, impl=impl)

    out, expected = torch.compile(function, fullgraph=True, backend=backend)(x, gains), function(x, gains)
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)
    compiled, eager = (torch.autograd.grad(o.square().sum(), (x, gains)) for o in (out, expected))
    torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-4)


def test_compile_with_dynamic_sizes() -> None:
    function = torch.compile(lambda x: K.magic_resample(x, scale=1.5), fullgraph=True, dynamic=True)
    for size in ((6, 7), (9, 14), (31, 8)):
        x = torch.rand(1, 3, *size)
        torch.testing.assert_close(function(x), K.magic_resample(x, scale=1.5), rtol=0, atol=0)


@pytest.mark.parametrize(("scale", "strict"), [(1, False), (2, False), (3, True), (4, False)])
@pytest.mark.parametrize("learned", ["", "lags", "basis"])
def test_export_with_free_sizes(scale: int, learned: str, strict: bool) -> None:
    """No custom op in the graph, and every size and batch gives what eager gives, edges included."""
    count, basis = (3, torch.randn(3, 5, 5)) if learned == "basis" else (6, None)
    net = Resample(torch.rand(1, count, 1, 1) if learned else None, basis, scale=scale)
    free = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        net, (torch.rand(2, 3, 8, 9),), dynamic_shapes={"x": {0: free, 2: free, 3: free}}, strict=strict
    )
    assert not [n for n in program.graph.nodes if "sr_kernels" in str(n.target)]
    for shape in ((1, 3, 1, 1), (2, 3, 8, 9), (1, 3, 33, 17)):
        x = torch.rand(shape)
        torch.testing.assert_close(program.module()(x), net(x), rtol=0, atol=3e-6)


@pytest.mark.parametrize("arguments", [{"scale": 0.5}, {"scale": (1, 2)}, {"size": (11, 30)}, {"size": (16, 18)}])
def test_export_of_any_ratio_with_fixed_sizes(arguments: dict) -> None:
    net, x = Resample(torch.rand(1, 6, 1, 1), **arguments), torch.rand(1, 3, 8, 9)
    program = torch.export.export(net, (x,))
    torch.testing.assert_close(program.module()(x), net(x), rtol=0, atol=3e-6)


def test_export_of_other_ratios_with_free_sizes_is_refused() -> None:
    free = torch.export.Dim.DYNAMIC
    with pytest.raises(ValueError, match="export with dynamic sizes needs an integer scale"):
        torch.export.export(Resample(scale=0.5), (torch.rand(1, 3, 8, 9),), dynamic_shapes={"x": {2: free}})


def test_fake_and_meta_tensors_leave_no_trace() -> None:
    with FakeTensorMode():
        assert K.magic_resample(torch.empty(1, 3, 21, 22), scale=2).shape == (1, 3, 42, 44)
    assert K.magic_resample(torch.empty(1, 3, 21, 22, device="meta"), scale=2).is_meta
    assert type(K.magic_resample(torch.rand(1, 3, 21, 22), scale=2)) is Tensor


def test_weights_cached_in_inference_mode_serve_training() -> None:
    x = torch.rand(1, 3, 23, 24)
    with torch.inference_mode():
        K.magic_resample(x, scale=2)
    K.magic_resample(x.requires_grad_(), scale=2).sum().backward()
    assert x.grad is not None
