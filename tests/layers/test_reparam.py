from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sr_engine.layers.reparam import RepConv3x3, collapsed, fold_reparam, folded_parameters


def trained(cin: int, cout: int) -> RepConv3x3:
    """A convolution whose branches all contribute."""
    conv = RepConv3x3(cin, cout).double()
    for parameter in conv.parameters():
        nn.init.normal_(parameter, std=0.3)
    return conv


@pytest.mark.parametrize(("cin", "cout"), [(4, 4), (3, 5)])
def test_equals_the_sum_of_its_branches(cin: int, cout: int) -> None:
    conv = trained(cin, cout)
    x = torch.randn(2, cin, 6, 5, dtype=torch.float64)
    wide = F.conv2d(F.conv2d(x, conv.squeeze[:, :, None, None]), conv.spread, padding=1)
    expected = F.conv2d(x, conv.weight, conv.bias, padding=1) + F.conv2d(x, conv.pointwise[:, :, None, None]) + wide
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-12)


def test_gradient_reaches_every_branch() -> None:
    conv = RepConv3x3(4, 4)
    conv(torch.randn(1, 4, 5, 5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())


def test_folds_into_equal_plain_convolutions_wherever_they_are() -> None:
    net = nn.Sequential(trained(3, 4), nn.ReLU(), nn.ModuleDict({"inner": trained(4, 2)})["inner"]).eval()
    count = folded_parameters(net)
    x = torch.randn(1, 3, 7, 4, dtype=torch.float64)
    before = net(x)
    fold_reparam(net)
    assert not any(isinstance(m, RepConv3x3) for m in net.modules())
    assert sum(p.numel() for p in net.parameters()) == count == (3 * 9 + 1) * 4 + (4 * 9 + 1) * 2
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-12)


def test_absorbs_a_plain_convolution() -> None:
    plain = nn.Conv2d(4, 4, 3, padding=1).double()
    conv = trained(4, 4)
    conv.absorb(plain.weight, plain.bias)  # pyright: ignore[reportArgumentType]
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(conv(x), plain(x), rtol=0, atol=1e-12)


def test_collapses_in_full_precision_under_autocast() -> None:
    conv = RepConv3x3(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv.kernel().dtype == torch.float32
        assert conv(torch.randn(1, 8, 5, 5)).dtype == torch.bfloat16


def test_new_convolution_has_the_gain_asked_for() -> None:
    torch.manual_seed(0)
    conv = RepConv3x3(32, 32, gain=1.4)
    out = conv(torch.randn(4, 32, 32, 32))[..., 1:-1, 1:-1]
    assert out.std().item() == pytest.approx(1.4, rel=0.1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_collapsing_together_changes_neither_results_nor_gradients(memory_format: torch.memory_format) -> None:
    convs = nn.ModuleList(trained(*shape) for shape in ((4, 4), (4, 6), (6, 4), (4, 4)))
    convs.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]
    reparameterised = [conv for conv in convs if isinstance(conv, RepConv3x3)]
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    found = []
    for around in (nullcontext(), collapsed(reparameterised)):
        with around:
            out = nn.Sequential(*convs)(x)
        out.square().sum().backward()
        found.append([out, *(p.grad for p in convs.parameters())])
        assert all(p.grad.stride() == p.stride() for p in convs.parameters() if p.grad is not None)
        convs.zero_grad(set_to_none=True)
    assert all(conv.ready is None for conv in reparameterised)
    for apart, together in zip(*found, strict=True):
        torch.testing.assert_close(apart, together, rtol=1e-9, atol=1e-9)


def test_collapsing_together_casts_once_under_autocast() -> None:
    convs = [RepConv3x3(8, 8) for _ in range(3)]
    x = torch.randn(1, 8, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        apart = [conv(x) for conv in convs]
        with collapsed(convs):
            assert {t.dtype for conv in convs for t in conv.ready or ()} == {torch.bfloat16}
            together = [conv(x) for conv in convs]
    for a, b in zip(apart, together, strict=True):
        assert b.dtype == torch.bfloat16
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)


def test_an_error_inside_leaves_nothing_collapsed() -> None:
    conv = RepConv3x3(4, 4)
    with pytest.raises(RuntimeError), collapsed([conv]):
        conv(torch.randn(1, 3, 5, 5))
    assert conv.ready is None
