"""`accelerate` on whole HAT networks."""

from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate, restore
from tests.zoo.modules import public, randomise
from tests.zoo.networks import check_network

hat = public("spandrel.architectures.HAT.__arch.HAT")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def make_hat(made: Any = hat.HAT, **changes: Any) -> Any:
    arguments = {"img_size": 16, "embed_dim": 20, "depths": (2,), "num_heads": (2,), "window_size": 8, "num_feat": 8}
    more = {"squeeze_factor": 2, "conv_scale": 0.5, "mlp_ratio": 2, "upscale": 2}
    network = made(**{**arguments, **more, **changes})
    randomise(network)
    return network.eval()


@pytest.mark.parametrize(
    "changes", [{}, {"window_size": 4, "overlap_ratio": 1.0, "embed_dim": 30, "num_heads": (3,), "qk_scale": 0.3}]
)
def test_hat(changes):
    report = check_network(make_hat(**changes), 4, [(16, 16), (24, 16), (13, 19), (8, 8)])
    assert [layer.family for layer in report.layers] == 2 * ["HAT block"] + ["HAT overlapping block", "HAT masks"]


class OriginalMask(hat.HAT):
    """As in the original repository, where it takes a size only."""

    def calculate_mask(self, x_size: Any, **_: Any) -> Any:
        return super().calculate_mask(x_size, torch.float32)


def test_the_original_repository_builds_its_mask_from_a_size_alone():
    network, x = make_hat(OriginalMask), torch.rand(1, 3, 24, 16)
    expected = network(x)
    assert not accelerate(network)[1].left
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_no_mask_is_built_and_a_hook_inside_sees_the_original_with_one():
    network, x = make_hat(), torch.rand(1, 3, 24, 16)
    expected = network(x)
    accelerate(network)
    assert network.calculate_mask((24, 16), torch.float32).numel() == 0
    seen: list[Any] = []
    for block in network.layers[0].residual_group.blocks:
        block.attn.softmax.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    assert seen == 2 * [(6, 2, 64, 64)]


def test_active_dropout_runs_the_original_with_a_mask():
    network, x = make_hat(attn_drop_rate=0.2), torch.rand(1, 3, 24, 16)
    accelerate(network)
    network.train()
    torch.manual_seed(1)
    actual = network(x)
    restore(network)
    torch.manual_seed(1)
    torch.testing.assert_close(actual, network(x), rtol=1e-4, atol=1e-5)


def test_a_block_called_without_a_mask_uses_none():
    network = make_hat()
    block, x, index = (
        network.layers[0].residual_group.blocks[1],
        torch.randn(1, 384, 20),
        network.relative_position_index_SA,
    )
    expected = block(x, (24, 16), index, None)
    assert not torch.allclose(expected, block(x, (24, 16), index, network.calculate_mask((24, 16), torch.float32)))
    accelerate(network)
    torch.testing.assert_close(block(x, (24, 16), index, None), expected, rtol=1e-4, atol=1e-5)


def transposed(network: Any) -> None:
    network.relative_position_index_SA = network.relative_position_index_SA.T.contiguous()


def unwrapped(network: Any) -> None:
    network.relative_position_index_OCA += network.window_size - 1


def other_mask(network: Any) -> None:
    network.shift_size = 3


@pytest.mark.parametrize(
    ("fork", "left", "reason"),
    [
        (transposed, ["HAB", "HAB", "HAT"], "its bias index follows another rule"),
        (unwrapped, ["OCAB"], "its bias index follows another rule"),
        (other_mask, ["HAB", "HAT"], "its mask follows another rule"),
    ],
)
def test_a_fork_with_another_convention_is_left_alone(fork, left, reason):
    network, x = make_hat(), torch.rand(1, 3, 16, 24)
    fork(network)
    expected = network(x)
    _, report = accelerate(network)
    assert [layer.kind for layer in report.left] == left
    assert report.left[0].reason == reason
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16():
    network, x = make_hat(), torch.rand(1, 3, 24, 16)
    expected = network(x)
    accelerate(network)
    actual = network.bfloat16()(x.bfloat16())
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).abs().max() <= 0.1 * expected.abs().max()
