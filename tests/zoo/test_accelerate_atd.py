"""`accelerate` on whole ATD networks."""

from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import public, randomise
from tests.zoo.networks import check_network

atd = public("spandrel.architectures.ATD.__arch.atd_arch")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def make_atd(**changes: Any) -> Any:
    arguments = {"img_size": 16, "embed_dim": 20, "depths": (3,), "num_heads": (2,), "window_size": 8, "mlp_ratio": 2}
    more = {"category_size": 32, "num_tokens": 8, "reducted_dim": 4, "upscale": 2, "upsampler": "pixelshuffledirect"}
    network = atd.ATD(**{**arguments, **more, **changes})
    randomise(network)
    return network.eval()


@pytest.mark.parametrize("changes", [{}, {"embed_dim": 42, "num_heads": (6,), "window_size": 4, "qkv_bias": False}])
def test_atd(changes):
    report = check_network(make_atd(**changes), 4, [(16, 16), (24, 16), (13, 19), (8, 8)])
    assert [layer.family for layer in report.layers] == 3 * ["ATD layer"] + ["ATD masks"]


def test_no_mask_is_built_and_a_hook_inside_sees_the_original_with_one():
    network, x = make_atd(), torch.rand(1, 3, 24, 16)
    expected = network(x)
    accelerate(network)
    assert network.calculate_mask([24, 16]).numel() == 0
    seen: list[Any] = []
    for layer in network.layers[0].residual_group.layers:
        layer.attn_win.softmax.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    assert seen == 3 * [(6, 2, 64, 64)]


def transposed(network: Any) -> None:
    network.relative_position_index_SA = network.relative_position_index_SA.T.contiguous()


def other_mask(network: Any) -> None:
    build = network.calculate_mask
    network.calculate_mask = lambda x_size: build(x_size) / 2


@pytest.mark.parametrize(
    ("fork", "left", "reason"),
    [
        (transposed, 4, "its bias index follows another rule"),
        (other_mask, 2, "its mask follows another rule"),
    ],
)
def test_a_fork_with_another_convention_is_left_alone(fork, left, reason):
    network, x = make_atd(), torch.rand(1, 3, 16, 24)
    fork(network)
    expected = network(x)
    _, report = accelerate(network)
    assert len(report.left) == left
    assert report.left[0].reason == reason
    assert report.left[-1].kind == "ATD"
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16():
    layer_inputs: list[Any] = []
    network, x = make_atd(), torch.rand(1, 3, 24, 16)
    accelerate(network)
    layer = network.layers[0].residual_group.layers[1]
    layer.register_forward_pre_hook(lambda _module, args: layer_inputs.append(args))
    network(x)
    (tokens, dictionary, *rest), expected = layer_inputs[0], layer(*layer_inputs[0])
    actual = layer.bfloat16()(tokens.bfloat16(), dictionary.bfloat16(), *rest)
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == torch.bfloat16
        assert a.shape == b.shape
