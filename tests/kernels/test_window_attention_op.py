"""window_attention as an operator: registration, torch.compile, torch.export."""

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.window_attention import op

HEADS, C = 2, 10


def arguments(windows: K.Windows, maps: list[Tensor], **given: Tensor) -> tuple:
    optional = [given.get(name) for name in ("bias", "logit_scale", "pad_token")]
    return maps, *optional, HEADS, 0.5, *windows.encode(), windows.penalty, "auto", "torch", False


@pytest.mark.parametrize("packed", [True, False])
def test_operators_are_registered_properly(packed):
    windows = K.Windows(4, 2, outside="token")
    shape = (1, 7, 8, 3 * C) if packed else (1, 7, 8, HEADS, C // HEADS)
    maps = [torch.randn(shape, requires_grad=True) for _ in range(1 if packed else 3)]
    given = {"bias": torch.randn(49, HEADS), "logit_scale": torch.rand(HEADS), "pad_token": torch.randn(3 * C)}
    given = {name: value.requires_grad_() for name, value in given.items()}
    called = arguments(windows, maps, **given)
    torch.library.opcheck(op.window_attention, called)
    plain = arguments(windows, [m.detach() for m in maps], **{n: v.detach() for n, v in given.items()})
    torch.library.opcheck(op.window_attention_backward, (torch.randn(1, 7, 8, C), None, None, *plain[:-1], True))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_as_a_whole_with_gradients(backend):
    windows = K.Windows(4, 2)
    table = torch.randn(49, HEADS, requires_grad=True)
    qkv = torch.randn(1, 8, 8, 3 * C, requires_grad=True)

    def function(x: Tensor) -> Tensor:
        return K.window_attention(x * 2, table, heads=HEADS, windows=windows).sin()

    plain = function(qkv)
    compiled = torch.compile(function, fullgraph=True, backend=backend)(qkv)
    torch.testing.assert_close(compiled, plain)
    expected, actual = (torch.autograd.grad(out.sum(), (qkv, table)) for out in (plain, compiled))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("windows", "step"),
    [
        (K.Windows(4, 2, outside="zero", order="pad_roll"), 1),
        (K.Windows(4), 4),
        (K.Windows(4, keys=6, key_offset=-1, outside="zero"), 1),
    ],
    ids=["shifted", "whole windows", "overlapping"],
)
def test_exported_program_needs_no_kernels_and_takes_any_size(windows, step):
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.randn(windows.table_rows, HEADS))

        def forward(self, qkv: Tensor) -> Tensor:
            return K.window_attention(qkv, self.table, heads=HEADS, windows=windows)

    module = Attention()
    size = {n: step * torch.export.Dim(name, min=9 // step, max=64) for n, name in ((1, "h"), (2, "w"))}
    program = torch.export.export(module, (torch.randn(1, 12, 16, 3 * C),), dynamic_shapes=(size,))
    assert not any("sr_kernels" in str(node.target) for node in program.graph.nodes)
    other = torch.randn(1, 5 * step + 8, 4 * step + 8, 3 * C)
    torch.testing.assert_close(program.module()(other), module(other))


def test_onnx_takes_any_size():
    ort = pytest.importorskip("onnxruntime")
    windows = K.Windows(4, 2, outside="token")
    table, scale, token = torch.randn(49, HEADS), torch.rand(HEADS) * 5, torch.randn(3 * C)

    class Attention(torch.nn.Module):
        def forward(self, qkv: Tensor) -> Tensor:
            return K.window_attention(qkv, table, heads=HEADS, windows=windows, logit_scale=scale, pad_token=token)

    size = {1: torch.export.Dim("h", min=9, max=64), 2: torch.export.Dim("w", min=9, max=64)}
    program = torch.onnx.export(Attention(), (torch.randn(1, 12, 16, 3 * C),), dynamic_shapes=(size,), verbose=False)
    assert program is not None
    session = ort.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    other = torch.randn(1, 21, 14, 3 * C)
    (out,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), Attention()(other))
