import pytest
import torch
from torch import nn

from sr_engine.layers.content import STATISTICS, STATISTICS_REACH, Content, ContentAnalyzer, FiLM, double
from sr_kernels import functional as K


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 24)])
def test_shapes(size: tuple[int, int]) -> None:
    content = ContentAnalyzer(window=8)(torch.rand(2, 3, *size))
    assert content.fine.shape == (2, STATISTICS, *size)
    assert content.coarse.shape == (2, STATISTICS, -(-size[0] // 2), -(-size[1] // 2))
    assert content.difficulty.shape == (2, 2, -(-size[0] // 8), -(-size[1] // 8))
    for statistic in content:
        assert statistic.dtype == torch.float32
        assert statistic.isfinite().all()


def test_maps_that_nobody_reads_are_left_out() -> None:
    x = torch.rand(1, 3, 8, 8)
    whole = ContentAnalyzer()(x)
    fine, coarse = ContentAnalyzer(coarse=False)(x), ContentAnalyzer(fine=False)(x)
    assert fine.coarse.numel() == coarse.fine.numel() == 0
    assert torch.equal(fine.fine, whole.fine)
    assert torch.equal(coarse.coarse, whole.coarse)
    assert torch.equal(fine.difficulty, coarse.difficulty)


def test_a_tile_says_what_the_whole_picture_says() -> None:
    torch.manual_seed(0)
    analyzer = ContentAnalyzer(window=8)
    x = torch.rand(1, 3, 64, 64)
    whole, tile = analyzer(x), analyzer(x[..., 8:56, 16:64])
    edge = STATISTICS_REACH + 1
    for part, name in ((1, "fine"), (2, "coarse")):
        there = getattr(whole, name)[..., 8 // part : 56 // part, 16 // part : 64 // part]
        inside = slice(edge // part, -edge // part)
        torch.testing.assert_close(getattr(tile, name)[..., inside, inside], there[..., inside, inside])
    torch.testing.assert_close(tile.difficulty[..., 1:-1, 1:-1], whole.difficulty[..., 2:6, 3:7])


def test_reach_of_the_statistics() -> None:
    torch.manual_seed(0)
    analyzer = ContentAnalyzer()
    x = torch.rand(1, 3, 40, 40)
    reach = 0
    for at in (20, 21):
        other = x.clone()
        other[..., at, at] = 1 - other[..., at, at]
        before, after = analyzer(x), analyzer(other)
        for a, b in ((before.fine, after.fine), (double(before.coarse, x), double(after.coarse, x))):
            reach = max(reach, int(((a != b).any(1)[0].nonzero() - at).abs().max()))
    assert reach == STATISTICS_REACH


def test_cells_lie_on_their_pixels() -> None:
    cells = torch.arange(6.0).view(1, 1, 2, 3)
    expected = torch.tensor([[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]).float()
    assert torch.equal(double(cells, torch.empty(1, 1, 3, 5))[0, 0], expected)


def content_of(coarse: torch.Tensor) -> Content:
    return Content(torch.empty(0), coarse, torch.empty(0))


def test_a_new_film_is_the_identity_and_learns() -> None:
    film = FiLM(6)
    x, coarse = torch.randn(2, 6, 5, 7), torch.randn(2, STATISTICS, 3, 4)
    out = film(x, content_of(coarse))
    assert torch.equal(out, x)
    (out * torch.randn_like(out)).sum().backward()
    for parameter in film.parameters():
        assert parameter.grad is not None
        assert (parameter.grad.abs().flatten(1).sum(1) > 0).all() if parameter.dim() > 1 else parameter.grad.all()


@pytest.mark.parametrize("size", [(4, 4), (3, 4), (1, 1), (5, 3)])
def test_film_scales_and_shifts(size: tuple[int, int]) -> None:
    film = FiLM(2).double()
    with torch.no_grad():
        film.scale.weight[0, 3] = 2
        film.shift.weight[1, 5] = 3
    x, coarse = torch.randn(1, 2, *size).double(), torch.randn(1, STATISTICS, 3, 2).double()
    coarse = coarse[..., : -(-size[0] // 2), : -(-size[1] // 2)]
    pixels = double(coarse, like=x)
    expected = torch.stack((x[:, 0] * (1 + 2 * pixels[:, 3]), x[:, 1] + 3 * pixels[:, 5]), dim=1)
    torch.testing.assert_close(film(x, content_of(coarse)), expected)


@pytest.mark.parametrize("last", [True, False])
def test_gradients_of_film_at_even_sizes_are_those_of_a_map_for_every_pixel(last: bool) -> None:
    torch.manual_seed(0)
    film = FiLM(3).double()
    for parameter in film.parameters():
        nn.init.normal_(parameter)
    x, coarse = torch.randn(2, 3, 6, 4).double(), torch.randn(2, STATISTICS, 3, 2).double().requires_grad_()
    x = (x.contiguous(memory_format=torch.channels_last) if last else x).requires_grad_()
    weight = torch.randn_like(x)
    inputs = (x, coarse, *film.parameters())
    actual = torch.autograd.grad((film(x, content_of(coarse)) * weight).sum(), inputs)
    plain = x * double(film.scale(coarse), like=x) + double(film.shift(coarse), like=x)
    for one, other in zip(actual, torch.autograd.grad((plain * weight).sum(), inputs), strict=True):
        torch.testing.assert_close(one, other)
    torch.autograd.gradgradcheck(lambda *inputs: film(inputs[0], content_of(inputs[1])), inputs[:2])


@pytest.mark.parametrize("size", [(8, 6), (9, 6), (8, 7), (1, 1)])
@pytest.mark.parametrize("part", ["fine", "coarse"])
def test_maps_hold_both_scales_for_pixels_and_for_cells(size: tuple[int, int], part: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, *size)
    fine, coarse, _ = K.content_stats(x, window=8)
    if part == "fine":
        expected = torch.cat((fine, double(coarse, like=fine)), 1)
    else:
        expected = torch.cat((nn.functional.avg_pool2d(fine, 2, ceil_mode=True), coarse), 1)
    found = getattr(ContentAnalyzer()(x), part)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(8, 6), (5, 7)])
def test_compiled_and_exported_forms_say_the_same(size: tuple[int, int]) -> None:
    class Modulated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.analyzer, self.film = ContentAnalyzer(), FiLM(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.film(x, self.analyzer(x))

    torch.manual_seed(0)
    net, x = Modulated(), torch.rand(1, 3, *size)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    expected = net(x)
    exported = torch.export.export(net, (x,)).module()
    for other in (exported, torch.compile(net, backend="aot_eager", fullgraph=True)):
        torch.testing.assert_close(other(x), expected, rtol=0, atol=1e-5)
