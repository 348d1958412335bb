import pytest
import torch

from sr_engine.layers.content import STATISTICS_REACH, ContentAnalyzer, FiLM


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 24)])
def test_shapes(size: tuple[int, int]) -> None:
    features, difficulty = ContentAnalyzer(width=12, window=8)(torch.rand(2, 3, *size))
    assert features.shape == (2, 12, *size)
    assert difficulty.shape == (2, 2, -(-size[0] // 8), -(-size[1] // 8))
    assert features.dtype == difficulty.dtype == torch.float32
    assert features.isfinite().all()
    assert difficulty.isfinite().all()


def test_a_tile_says_what_the_whole_picture_says() -> None:
    torch.manual_seed(0)
    analyzer = ContentAnalyzer(window=8)
    x = torch.rand(1, 3, 64, 64)
    features, difficulty = analyzer(x)
    tile_features, tile_difficulty = analyzer(x[..., 8:56, 16:64])
    edge = STATISTICS_REACH
    inside = tile_features[..., edge:-edge, edge:-edge]
    torch.testing.assert_close(inside, features[..., 8 + edge : 56 - edge, 16 + edge : 64 - edge])
    torch.testing.assert_close(tile_difficulty[..., 1:-1, 1:-1], difficulty[..., 2:6, 3:7])


def test_reach_of_the_statistics() -> None:
    torch.manual_seed(0)
    analyzer = ContentAnalyzer()
    x = torch.rand(1, 3, 40, 40)
    other = x.clone()
    other[..., 20, 20] = 1 - other[..., 20, 20]
    changed = (analyzer(x).features != analyzer(other).features).any(1)[0].nonzero()
    reach = (changed - 20).abs().max().item()
    # Cells of two pixels: how far one reaches depends on the side of its cell it lies on.
    assert STATISTICS_REACH - 1 <= reach <= STATISTICS_REACH


def test_a_new_film_is_the_identity_and_learns() -> None:
    film = FiLM(6, features=4)
    x, features = torch.randn(2, 6, 5, 7), torch.randn(2, 4, 5, 7)
    out = film(x, features)
    assert torch.equal(out, x)
    (out * torch.randn_like(out)).sum().backward()
    assert film.project.weight.grad is not None
    assert (film.project.weight.grad.flatten(1).abs().sum(1) > 0).all()


def test_film_scales_and_shifts() -> None:
    film = FiLM(2, features=1).double()
    with torch.no_grad():
        film.project.weight.copy_(torch.tensor([2.0, 0.0, 0.0, 3.0]).view(4, 1, 1, 1))
    x, features = torch.randn(1, 2, 3, 3).double(), torch.randn(1, 1, 3, 3).double()
    expected = torch.cat((x[:, :1] * (1 + 2 * features), x[:, 1:] + 3 * features), dim=1)
    torch.testing.assert_close(film(x, features), expected)
