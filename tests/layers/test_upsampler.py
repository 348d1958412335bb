import pytest
import torch
from torch import nn

from sr_engine.layers.content import STATISTICS, Content
from sr_engine.layers.upsampler import MagicUpsampler, directional_lags
from sr_kernels import functional as K


def bent(scale: int, features: int = 0) -> MagicUpsampler:
    """An upsampler whose gains are far from neutral."""
    up = MagicUpsampler(scale, features).double()
    for parameter in up.parameters():
        nn.init.normal_(parameter)
    return up


def content_of(fine: torch.Tensor) -> Content:
    return Content(fine, torch.empty(0), torch.empty(0))


@pytest.mark.parametrize(("reach", "count"), [(1, 4), (2, 12), (3, 24)])
def test_stencils_span_the_symmetric_filters_of_zero_sum(reach: int, count: int) -> None:
    stencils = directional_lags(reach).double()
    assert stencils.shape == (count, 2 * reach + 1, 2 * reach + 1)
    assert torch.equal(stencils, stencils.flip(1, 2))
    assert stencils.sum((1, 2)).abs().max() == 0
    assert torch.linalg.matrix_rank(stencils.flatten(1)) == count


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("features", [0, 5])
def test_a_new_one_is_the_classical_kernel(scale: int, features: int) -> None:
    x, content = torch.rand(2, 3, 7, 5), content_of(torch.randn(2, STATISTICS, 7, 5))
    out = MagicUpsampler(scale, features)(x, content)
    torch.testing.assert_close(out, K.magic_resample(x, scale=scale, impl="reference"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_constants_survive_any_gains(scale: int) -> None:
    out = bent(scale, 5)(torch.full((1, 3, 9, 8), 0.7), content_of(torch.randn(1, STATISTICS, 9, 8)))
    torch.testing.assert_close(out, torch.full_like(out, 0.7), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_gains_change_the_picture_pixel_by_pixel(scale: int) -> None:
    x, fine = torch.rand(1, 3, 16, 16), torch.zeros(1, STATISTICS, 16, 16)
    up = bent(scale, 5)
    level = up(x, content_of(fine))
    fine[..., 8, 8] = 3
    changed = (up(x, content_of(fine)) - level).abs().sum(1)[0] > 1e-6
    assert changed.any()
    cells = changed.nonzero() // scale
    assert (cells - 8).abs().max() <= 1


@pytest.mark.parametrize("features", [0, 5])
def test_gradient_reaches_the_neutral_gains(features: int) -> None:
    up = MagicUpsampler(2, features)
    up(torch.rand(1, 3, 8, 8), content_of(torch.randn(1, STATISTICS, 8, 8))).square().sum().backward()
    for parameter in [up.level] if up.steer is None else [up.level, up.steer[2].weight]:
        assert parameter.grad is not None
        assert (parameter.grad.flatten(2).abs().sum(2) > 0).all()


def test_stays_fp32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert MagicUpsampler(2)(torch.rand(1, 3, 4, 4)).dtype == torch.float32


def gradient_energy(x: torch.Tensor) -> float:
    return (x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()).item()


@pytest.mark.parametrize("features", [0, 5])
def test_sharpness_rules_local_contrast(features: int) -> None:
    torch.manual_seed(0)
    x, content = torch.rand(1, 3, 24, 24).double(), content_of(torch.randn(1, STATISTICS, 24, 24).double())
    up = bent(2, features)
    for parameter in up.parameters():
        parameter.data *= 0.2
    learned = up(x, content)
    assert torch.equal(up(x, content, 1.0), learned)
    energies = [gradient_energy(up(x, content, sharpness)) for sharpness in (0, 0.5, 1, 1.5, 2)]
    assert energies == sorted(energies)
    assert energies[-1] > 1.2 * energies[0]


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_sharpness_is_first_order_magic_kernel_sharpening_of_the_picture(reach: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 9, 11)
    taps = torch.tensor([-0.25, 1.5, -0.25])
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    rows = nn.functional.conv2d(padded[:, :, :, 1:-1], taps.view(1, 1, 3, 1)) - x
    columns = nn.functional.conv2d(padded[:, :, 1:-1], taps.view(1, 1, 1, 3)) - x
    added = MagicUpsampler(1, reach=reach)(x, sharpness=1.6) - x
    torch.testing.assert_close(added, K.magic_resample(0.6 * (rows + columns), scale=1, kernel="magic"))


@pytest.mark.parametrize("sharpness", [0.0, 2.0])
def test_constants_survive_any_sharpness(sharpness: float) -> None:
    out = bent(2, 5)(torch.full((1, 3, 9, 8), 0.7), content_of(torch.randn(1, STATISTICS, 9, 8)), sharpness)
    torch.testing.assert_close(out, torch.full_like(out, 0.7), rtol=0, atol=1e-5)
