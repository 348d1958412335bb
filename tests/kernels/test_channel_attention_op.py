"""channel_attention as an operator: registration, torch.compile, torch.export, ONNX."""

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.channel_attention import op

HEADS, C = 2, 10
SHAPES = {"nhwc": (2, 4, 3, 3 * C), "nchw": (2, 3 * C, 4, 3)}
APART = {"nhwc": (2, 4, 3, HEADS, C // HEADS), "nchw": (2, HEADS, C // HEADS, 4, 3)}


class Attention(torch.nn.Module):
    def __init__(self, layout: str) -> None:
        super().__init__()
        self.temperature = torch.nn.Parameter(torch.rand(HEADS, 1, 1) * 5)
        self.layout = layout

    def forward(self, qkv: Tensor) -> Tensor:
        return K.channel_attention(qkv, heads=HEADS, temperature=self.temperature, layout=self.layout)  # type: ignore


@pytest.mark.parametrize("form", ["packed", "apart", "channels last"])
@pytest.mark.parametrize("layout", SHAPES)
def test_operators_are_registered_properly(layout, form):
    shape = APART[layout] if form == "apart" else SHAPES[layout]
    maps = [torch.randn(shape) for _ in range(3 if form == "apart" else 1)]
    if form == "channels last":
        maps = [m.to(memory_format=torch.channels_last) for m in maps]
    maps = [m.requires_grad_() for m in maps]
    temperature = torch.rand(HEADS, 1, 1, requires_grad=True)
    settings = (HEADS, layout, "auto", "torch")
    torch.library.opcheck(op.channel_attention, (maps, temperature, *settings))
    out, *small = op.channel_attention(maps, temperature, *settings)
    plain = [x.detach() for x in (*maps, temperature, *small)]
    arguments = (torch.randn_like(out), plain[: len(maps)], *plain[len(maps) :], *settings)
    torch.library.opcheck(op.channel_attention_backward, arguments)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", SHAPES)
def test_compiles_as_a_whole_with_gradients(layout, backend):
    module, qkv = Attention(layout), torch.randn(SHAPES[layout], requires_grad=True)

    def function(x: Tensor) -> Tensor:
        return module(x * 2).sin()

    plain = function(qkv)
    compiled = torch.compile(function, fullgraph=True, backend=backend)(qkv)
    torch.testing.assert_close(compiled, plain)
    expected, actual = (torch.autograd.grad(out.sum(), (qkv, module.temperature)) for out in (plain, compiled))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("layout", SHAPES)
def test_exported_program_needs_no_kernels_and_takes_any_size(layout):
    module = Attention(layout)
    rows = SHAPES[layout].index(4)
    size = {rows: torch.export.Dim("h", min=2, max=64), rows + 1: torch.export.Dim("w", min=2, max=64)}
    program = torch.export.export(module, (torch.randn(SHAPES[layout]),), dynamic_shapes=(size,))
    assert not any("sr_kernels" in str(node.target) for node in program.graph.nodes)
    other = torch.randn([9 if n == 4 else 5 if n == 3 else n for n in SHAPES[layout]])
    torch.testing.assert_close(program.module()(other), module(other))


@pytest.mark.parametrize("layout", SHAPES)
def test_onnx_takes_any_size(layout):
    ort = pytest.importorskip("onnxruntime")
    module = Attention(layout).eval()
    rows = SHAPES[layout].index(4)
    size = {rows: torch.export.Dim("h", min=2, max=64), rows + 1: torch.export.Dim("w", min=2, max=64)}
    program = torch.onnx.export(module, (torch.randn(SHAPES[layout]),), dynamic_shapes=(size,), verbose=False)
    assert program is not None
    session = ort.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    other = torch.randn([9 if n == 4 else 5 if n == 3 else n for n in SHAPES[layout]])
    (out,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), module(other))
