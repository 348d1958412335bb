import pytest
import torch
from torch import nn

from sr_engine.layers.attention import WindowAttention
from sr_engine.layers.blocks import MixStage
from sr_engine.layers.content import Content
from sr_engine.layers.routing import hardest, hardest_mask, numbers


def test_the_hardest_share_of_each_picture_is_chosen() -> None:
    gate = torch.tensor([[0.1, 0.9, 0.5, 0.4, 0.3], [0.7, 0.2, 0.1, 0.8, 0.6]]).view(2, 1, 1, 5)
    assert hardest(gate, 0.4).tolist() == [[1, 2], [0, 3]]
    assert hardest_mask(gate, 0.4).view(2, 5).int().tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 1, 0]]


@pytest.mark.parametrize(("share", "count"), [(0.07, 7), (0.071, 8), (0.001, 1), (0.5, 50), (0.999, 100), (1.0, 100)])
def test_the_share_is_rounded_up_to_whole_windows(share: float, count: int) -> None:
    assert hardest(torch.rand(1, 1, 10, 10), share).shape == (1, count)


def test_the_first_of_equals_are_chosen() -> None:
    gate = torch.ones(1, 1, 8, 8)
    gate[..., 5, 5] = 2
    assert hardest(gate, 0.125).tolist() == [[0, 1, 2, 3, 4, 5, 6, 45]]


def test_windows_are_numbered_over_the_batch() -> None:
    gate = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.1]]).view(2, 1, 1, 3)
    found = numbers(0.3, gate)
    assert found is not None
    assert found.tolist() == [1, 3]
    again = numbers(hardest_mask(gate, 0.3), gate)
    assert again is not None
    assert again.tolist() == [1, 3]


def test_all_windows_take_the_dense_path() -> None:
    gate = torch.rand(1, 1, 2, 2)
    assert numbers(1.0, None) is None
    assert numbers(0.9, gate) is None
    assert numbers(torch.ones(1, 1, 2, 2, dtype=torch.bool), gate) is None


def test_what_cannot_be_chosen_is_refused() -> None:
    with pytest.raises(ValueError, match="this stage has none"):
        numbers(0.5, None)
    with pytest.raises(ValueError, match=r"mask of windows must be \(1, 1, 2, 2\), got \(1, 1, 2, 3\)"):
        numbers(torch.ones(1, 1, 2, 3, dtype=torch.bool), torch.rand(1, 1, 2, 2))


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 1), (2, 5), (3, 17)])
@pytest.mark.parametrize("last", [True, False])
def test_chosen_windows_get_what_dense_attention_gives_them(size: tuple[int, int], last: bool) -> None:
    torch.manual_seed(0)
    layer = WindowAttention(12, heads=2, window=4).double()
    nn.init.normal_(layer.bias_table)
    x = torch.randn(2, 12, *size, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    gate = torch.rand(2, 1, -(-size[0] // 4), -(-size[1] // 4), dtype=torch.float64)
    mask = torch.rand_like(gate) < 0.5
    mask[1, 0, 0, 0] = True
    pixels = mask.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., : size[0], : size[1]]
    out = layer(x, gate, numbers(mask, gate))
    torch.testing.assert_close(out, torch.where(pixels, layer(x, gate), 0.0), rtol=0, atol=1e-6)
    assert out.stride(1) == 1, "not channels last"


def test_gradient_passes_through_the_chosen_windows_alone() -> None:
    layer = WindowAttention(8, heads=2, window=4)
    x, gate = torch.randn(1, 8, 8, 8, requires_grad=True), torch.rand(1, 1, 2, 2, requires_grad=True)
    layer(x, gate, torch.tensor([2])).square().sum().backward()
    assert x.grad is not None
    assert gate.grad is not None
    assert x.grad[..., 4:, :4].abs().sum() > 0
    assert x.grad[..., :4, :].abs().sum() == x.grad[..., 4:, 4:].abs().sum() == 0
    assert gate.grad.flatten().nonzero().tolist() == [[2]]


def test_windows_without_attention_still_get_convolutions() -> None:
    torch.manual_seed(0)
    stage = MixStage(8, units=1, expansion=1.0, window=4, heads=2, gate=True).eval()
    content = Content(torch.empty(0), torch.empty(0), torch.rand(1, 2, 2, 2))
    x = torch.randn(1, 8, 8, 8)
    nothing = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    out = stage(x, content, None, nothing)
    nn.init.zeros_(stage.attention.project.weight)  # pyright: ignore
    torch.testing.assert_close(out, stage(x, content, None))
    assert (out - x).abs().amax((0, 1)).min() > 0
