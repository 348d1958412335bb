import numpy as np
import pytest
import torch

from sr_engine.config import registry
from sr_engine.errors import TrainingError
from sr_engine.losses.inputs import LossInputs


def batch(dtype=torch.float32, shape=(2, 3, 12, 9)):
    rng = np.random.default_rng(0)
    sr, hr = (torch.from_numpy(rng.random(shape)).to(dtype) for _ in range(2))
    return LossInputs(sr, hr, torch.zeros(2, 3, 6, 4))


def in_float64(inputs):
    return inputs.sr.double().numpy(), inputs.hr.double().numpy()


ORACLES = {
    "l1": lambda a, b: np.abs(a - b).mean(),
    "l2": lambda a, b: ((a - b) ** 2).mean(),
    "charbonnier": lambda a, b: np.sqrt((a - b) ** 2 + 1e-6).mean(),
    "fft": lambda a, b: 0.5 * (np.abs((s := np.fft.rfft2(a) - np.fft.rfft2(b)).real) + np.abs(s.imag)).mean(),
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_equals_numpy_in_float64(name, dtype):
    inputs = batch(dtype)
    value = registry.build("loss", name)(inputs)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(ORACLES[name](*in_float64(inputs)), rel=2e-6)


def test_charbonnier_is_smooth_at_zero():
    same = torch.rand(1, 3, 4, 4)
    sr = same.clone().requires_grad_()
    loss = registry.build("loss", "charbonnier", eps=0.01)(LossInputs(sr, same, same))
    loss.backward()
    assert loss.item() == pytest.approx(0.01)
    assert sr.grad is not None
    assert sr.grad.abs().max() == 0


def test_ortho_spectrum_does_not_depend_on_the_patch_size():
    torch.manual_seed(0)
    values = []
    for side in (32, 128):
        sr = torch.randn(2, 3, side, side)
        values.append(registry.build("loss", "fft", norm="ortho")(LossInputs(sr, torch.zeros_like(sr), sr)).item())
    assert values[1] == pytest.approx(values[0], rel=0.05)


def test_output_of_another_scale_is_refused():
    with pytest.raises(TrainingError, match=r"\(1, 3, 8, 8\).*\(1, 3, 16, 16\)"):
        LossInputs(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 4, 4))
