"""Networks of other projects: their MLPs shrink alike, and the result is one that spandrel itself loads."""

import pytest
import torch

from sr_engine.compress import CompressError, axes, choose, cut_network, cut_state, importance
from sr_engine.compress.groups import spec_of
from sr_engine.config import registry
from sr_engine.models.community_network import CommunityNetwork
from sr_engine.models.files import load_model, save_model

spandrel = pytest.importorskip("spandrel", reason="networks of other projects need spandrel")

SIZES = {"embed_dim": 24, "depths": [2, 1], "num_heads": [2, 2], "window_size": 4, "img_size": 16}
ARGUMENTS = {
    "SwinIR": {**SIZES, "upsampler": "pixelshuffledirect", "mlp_ratio": 4.0},
    "Swin2SR": {**SIZES, "upsampler": "pixelshuffledirect", "mlp_ratio": 4.0},
    "HAT": {**SIZES, "upsampler": "pixelshuffle", "mlp_ratio": 8.0, "squeeze_factor": 8, "overlap_ratio": 0.5},
}


def build(arch: str) -> CommunityNetwork:
    torch.manual_seed(0)
    return registry.build("network_g", "spandrel", scale=2, arch=arch, **ARGUMENTS[arch])


def picture() -> torch.Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("arch", ARGUMENTS)
def test_the_pruned_network_is_saved_loaded_and_read_by_spandrel(arch: str, tmp_path) -> None:
    net = build(arch)
    batches = [(picture(), torch.rand(1, 3, 32, 32))]
    cut = choose(net, importance(net, batches), 0.1)
    assert cut.ratio == pytest.approx(0.1, abs=0.03)
    smaller = cut_network(net, cut).eval()
    assert smaller.spec.parameters == cut.parameters_after == sum(p.numel() for p in smaller.parameters())
    assert {len(kept) for kept in cut.kept.values()} == {round(24 * smaller.spec.arguments["mlp_ratio"])}
    save_model(tmp_path / "pruned.safetensors", smaller)
    again = load_model(tmp_path / "pruned.safetensors")
    theirs = spandrel.MAIN_REGISTRY.load(dict(again.state_dict())).model.eval()
    with torch.no_grad():
        expected = smaller(picture())
        assert torch.equal(again(picture()), expected)
        assert torch.equal(theirs(picture()).clamp(0, 1), expected)
    second = choose(again, importance(again, criterion="l1"), 0.05)
    assert spec_of(cut_network(again, second)).parameters == second.parameters_after < cut.parameters_after


@pytest.mark.parametrize("arch", ARGUMENTS)
@torch.no_grad()
def test_the_cut_is_exact(arch: str) -> None:
    """Channels whose activation is 0 can go: fc2 gets nothing from them."""
    net = build(arch).double().eval()
    cut = choose(net, importance(net, criterion="l2"), 0.1)
    smaller = cut_network(net, cut)

    def mask(kept: tuple[int, ...]):
        def hook(_: object, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            keep = args[0].new_zeros(args[0].shape[-1])
            keep[list(kept)] = 1
            return (args[0] * keep,)

        return hook

    before = net(picture().double())
    for name, kept in cut.kept.items():
        net.net.get_submodule(f"{name}.fc2").register_forward_pre_hook(mask(kept))
    expected = net(picture().double())
    assert float((expected - before).abs().max()) > 1e-6
    assert float((smaller(picture().double()) - expected).abs().max()) < 1e-12


def test_both_ways_of_naming_parameters() -> None:
    """The state dict has the project's own names, `named_parameters` this project's."""
    net = build("SwinIR")
    cut = choose(net, importance(net, criterion="l1"), 0.1)
    state = cut_state(net, cut, net.state_dict())
    moments = cut_state(net, cut, dict(net.named_parameters()), moments=True)
    smaller = cut_network(net, cut)
    assert all(torch.equal(tensor, state[name]) for name, tensor in smaller.state_dict().items())
    assert all(torch.equal(tensor, moments[name]) for name, tensor in smaller.named_parameters())


def test_errors_say_what_can_be_removed() -> None:
    net = build("SwinIR")
    with pytest.raises(CompressError, match=r"ratio 0.9 .* at most 0.\d+ of [\d,]+ parameters, all of the hidden"):
        choose(net, importance(net, criterion="l1"), 0.9)
    other = registry.build("network_g", "spandrel", scale=2, arch="SPAN", num_in_ch=3, num_out_ch=3)
    with pytest.raises(CompressError, match=r"SPAN cannot be pruned: .* SwinIR, Swin2SR, HAT"):
        axes(other)
