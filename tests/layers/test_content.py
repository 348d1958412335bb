import pytest
import torch

from sr_engine.layers.content import STATISTICS, STATISTICS_REACH, Content, ContentAnalyzer, FiLM, double


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 24)])
def test_shapes(size: tuple[int, int]) -> None:
    content = ContentAnalyzer(window=8)(torch.rand(2, 3, *size))
    assert content.fine.shape == (2, STATISTICS, *size)
    assert content.coarse.shape == (2, STATISTICS, -(-size[0] // 2), -(-size[1] // 2))
    assert content.difficulty.shape == (2, 2, -(-size[0] // 8), -(-size[1] // 8))
    for statistic in content:
        assert statistic.dtype == torch.float32
        assert statistic.isfinite().all()


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


def test_film_scales_and_shifts() -> None:
    film = FiLM(2).double()
    with torch.no_grad():
        film.scale.weight[0, 3] = 2
        film.shift.weight[1, 5] = 3
    x, coarse = torch.randn(1, 2, 4, 4).double(), torch.randn(1, STATISTICS, 2, 2).double()
    pixels = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = torch.stack((x[:, 0] * (1 + 2 * pixels[:, 3]), x[:, 1] + 3 * pixels[:, 5]), dim=1)
    torch.testing.assert_close(film(x, content_of(coarse)), expected)
