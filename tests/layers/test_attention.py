import pytest
import torch
from torch import Tensor

from sr_engine.layers.attention import WindowAttention


def oracle(layer: WindowAttention, x: Tensor, gate: Tensor | None) -> Tensor:
    """Window by window, token by token, with reflection written as a loop."""
    _, dim, height, width = x.shape
    window, heads = layer.window, layer.heads
    rows, columns = ([reflect(i, n) for i in range(-(-n // window) * window)] for n in (height, width))
    out = torch.zeros(len(x), dim, len(rows), len(columns), dtype=x.dtype)
    coordinates = [(y, x_) for y in range(window) for x_ in range(window)]
    span = 2 * window - 1
    index = torch.tensor(
        [[(qy - ky + window - 1) * span + qx - kx + window - 1 for ky, kx in coordinates] for qy, qx in coordinates]
    )
    for top in range(0, len(rows), window):
        for left in range(0, len(columns), window):
            tokens = torch.stack([x[:, :, rows[top + dy], columns[left + dx]] for dy, dx in coordinates], dim=1)
            q, k, v = layer.qkv(layer.norm(tokens)).view(len(x), len(coordinates), 3, heads, -1).permute(2, 0, 3, 1, 4)
            scores = q @ k.mT * (dim // heads) ** -0.5 + layer.bias_table[index].permute(2, 0, 1)
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(len(x), len(coordinates), dim)
            if gate is not None:
                mixed = mixed * gate[:, :, top // window, left // window][:, :, None]
            result = layer.project(mixed)
            for token, (dy, dx) in enumerate(coordinates):
                out[:, :, top + dy, left + dx] = result[:, token]
    return out[..., :height, :width]


def reflect(i: int, size: int) -> int:
    step = 1 if i < size else -1
    if size == 1:
        return 0
    position = 0
    step = 1
    for _ in range(i):
        if not 0 <= position + step < size:
            step = -step
        position += step
    return position


@pytest.mark.parametrize("size", [(8, 4), (7, 9), (1, 1), (2, 5)])
@pytest.mark.parametrize("gated", [False, True])
def test_equals_attention_written_out(size: tuple[int, int], gated: bool) -> None:
    torch.manual_seed(0)
    layer = WindowAttention(12, heads=2, window=4).double()
    torch.nn.init.normal_(layer.bias_table)
    x = torch.randn(2, 12, *size, dtype=torch.float64)
    gate = torch.rand(2, 1, -(-size[0] // 4), -(-size[1] // 4), dtype=torch.float64) if gated else None
    torch.testing.assert_close(layer(x, gate), oracle(layer, x, gate), rtol=1e-5, atol=1e-5)


def test_gradient_reaches_input_bias_table_and_gate() -> None:
    layer = WindowAttention(8, heads=2, window=4)
    x = torch.randn(1, 8, 6, 5, requires_grad=True)
    gate = torch.ones(1, 1, 2, 2, requires_grad=True)
    layer(x, gate).square().sum().backward()
    for tensor in (x, gate, *layer.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_keeps_channels_last() -> None:
    layer = WindowAttention(8, heads=2, window=4)
    x = torch.randn(1, 8, 8, 8).contiguous(memory_format=torch.channels_last)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)
