"""What `accelerate` leaves alone, and what it says."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sr_engine.dropin import accelerate
from sr_engine.dropin.families import FAMILIES
from tests.zoo.modules import public, randomise
from tests.zoo.test_accelerate_swinir import make_swinir

swinir = public("spandrel.architectures.SwinIR.__arch.SwinIR")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def refuse(network: Any, *words: str, layers: int = 0, **options: Any) -> None:
    """Nothing is swapped, and the report says so in these words."""
    classes = [type(module) for module in network.modules()]
    same, report = accelerate(network, **options)
    assert same is network
    assert [type(module) for module in network.modules()] == classes
    assert (len(report.swapped), len(report.left)) == (0, layers)
    for word in words:
        assert word in report.summary(), report.summary()
        assert word in str(report)


def block(**changes: Any) -> nn.Module:
    arguments = {"dim": 20, "input_resolution": (16, 16), "num_heads": 2, "window_size": 8, "shift_size": 4}
    return swinir.SwinTransformerBlock(**{**arguments, **changes})


def test_no_attention():
    refuse(nn.Sequential(nn.Conv2d(3, 3, 3)), "no attention layer that is known")


def test_no_module():
    with pytest.raises(TypeError, match=r"got OrderedDict; load the network first, .*spandrel"):
        accelerate(make_swinir().state_dict())


def test_dropout_in_attention_while_training():
    network = make_swinir(attn_drop_rate=0.1).train()
    refuse(network, "dropout is active", "attn.attn_drop", ".eval()", layers=4)
    assert len(accelerate(network.eval())[1].swapped) == 4


def test_dropout_switched_on_later_runs_the_original():
    network = make_swinir(attn_drop_rate=0.5, depths=[2], num_heads=[2]).eval()
    twin, x = copy.deepcopy(network), torch.rand(1, 3, 16, 16)
    accelerate(network)
    for trained in (network, twin):
        torch.manual_seed(1)
        trained.result = trained.train()(x)
    assert torch.equal(network.result, twin.result)


def test_heads_too_wide():
    refuse(block(dim=260), "130 channels", "at most 128", layers=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised():
    network = nn.Sequential(block())
    quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    refuse(quantised, "the model is quantised", "accelerate its float form")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_traced():
    refuse(torch.jit.trace(nn.Conv2d(3, 3, 3), torch.rand(1, 3, 8, 8)), "scripted or traced")


def test_compiled():
    refuse(torch.compile(nn.Sequential(block()), backend="eager"), "accelerate it first")


def test_on_meta():
    refuse(nn.Sequential(block()).to("meta"), "no weights yet", "load them first")


def test_hooks_on_what_is_bypassed():
    layer: Any = block()
    layer.attn.register_forward_hook(lambda *_: None)
    refuse(nn.Sequential(layer), "its attn has hooks", layers=1)


def test_hooks_added_later_are_called():
    layer: Any = block()
    accelerate(layer)
    seen = []
    layer.attn.register_forward_hook(lambda *call: seen.append(call[2].shape))
    layer(torch.rand(1, 256, 20), (16, 16))
    assert seen == [(4, 64, 20)]


def test_another_bias_index():
    layer: Any = block()
    layer.attn.relative_position_index.copy_(layer.attn.relative_position_index.T.clone())
    refuse(nn.Sequential(layer), "bias index follows another rule", layers=1, verify=False)


class PostNorm(swinir.SwinTransformerBlock):
    """Has all the parts of SwinIR's block and uses them otherwise."""

    def forward(self, x: Tensor, x_size: tuple[int, int]) -> Tensor:
        return self.norm1(super().forward(x, x_size))


class Unmasked(swinir.SwinTransformerBlock):
    """Shifts without a mask."""

    def calculate_mask(self, x_size: tuple[int, int]) -> Tensor:
        return torch.zeros_like(super().calculate_mask(x_size))


def test_another_formula():
    """Only the forward comparison can see it."""
    layer = PostNorm(20, (64, 64), 2, window_size=8, shift_size=4)
    refuse(nn.Sequential(layer), "its output differs from the original's by", layers=1)


def test_another_mask():
    layer = Unmasked(20, (64, 64), 2, window_size=8, shift_size=4)
    refuse(nn.Sequential(layer), "its mask", layers=1, verify=False)


def test_a_forward_on_the_object():
    layer: Any = block()
    layer.forward = lambda *args: args[0]
    refuse(nn.Sequential(layer), "its forward was replaced", layers=1)


def test_a_part_with_a_name_that_is_taken():
    layer: Any = block()
    layer.key = nn.Linear(2, 2)
    refuse(nn.Sequential(layer), "its part 'key' has a name", layers=1)


def test_parts_that_break_the_check():
    layer: Any = block()
    layer.attn.num_heads = 0
    refuse(nn.Sequential(layer), "it cannot be checked: ZeroDivisionError", layers=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_hide_nothing_of_a_module(family):
    own = {name for kind in family.__mro__ if kind is not object for name in vars(kind) if not name.startswith("__")}
    assert own & set(dir(nn.Module())) <= {"forward"}


def test_one_bad_layer_among_good_ones():
    network = make_swinir()
    network.layers[1].residual_group.blocks[1].attn.relative_position_index.zero_()
    randomise(network)
    x = torch.rand(1, 3, 16, 16)
    expected = network.eval()(x)
    _, report = accelerate(network)
    assert [layer.name for layer in report.left] == ["layers.1.residual_group.blocks.1"]
    assert len(report.swapped) == 3
    assert ((network(x) - expected).abs().max() / expected.abs().max()).item() < 1e-5
