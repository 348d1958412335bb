import pytest
import torch
from torch import nn

from sr_engine.config import registry
from sr_engine.errors import EngineError
from sr_engine.layers.reparam import RepConv3x3
from sr_engine.models.generator import Generator, resampler
from sr_engine.models.presets import LAYOUTS
from sr_kernels import functional as K

# Every kind of part at a size that is quick: attention, large kernel, FiLM, gate, steering.
MIXING: dict[str, object] = {
    "preset": "small",
    "width": 16,
    "stages": 2,
    "units": 1,
    "kernel_size": 5,
    "kernel_channels": 4,
    "window": 4,
    "heads": 2,
}

# Dense blocks with what the presets of such blocks leave out.
AWARE: dict[str, object] = {"preset": "nano", "steer": True, "film": True}


def build(scale: int = 2, **arguments: object) -> Generator:
    return registry.build("network_g", "generator", scale=scale, **arguments)


def awake(net: Generator) -> Generator:
    """The network with every zero start replaced, so that every part has an effect."""
    torch.manual_seed(1)
    for name, parameter in net.named_parameters():
        if not parameter.abs().sum():
            nn.init.normal_(parameter, std=0.1 if "bias" in name else 0.05)
    return net


@pytest.mark.parametrize("arguments", [{"preset": "tiny"}, MIXING, {"preset": "resampler"}, AWARE])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_new_network_is_its_classical_upsampler(arguments: dict, scale: int) -> None:
    x = torch.rand(2, 3, 9, 6)
    with torch.no_grad():
        out = build(scale, **arguments)(x)
    torch.testing.assert_close(out, K.magic_resample(x, scale=scale, impl="reference"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"preset": "nano"}, AWARE, MIXING])
@pytest.mark.parametrize("size", [(1, 1), (1, 13), (7, 2), (17, 8)])
def test_any_size(arguments: dict, size: tuple[int, int]) -> None:
    with torch.no_grad():
        out = awake(build(3, **arguments))(torch.rand(1, 3, *size))
    assert out.shape == (1, 3, 3 * size[0], 3 * size[1])
    assert out.isfinite().all()


@pytest.mark.parametrize("arguments", [{"preset": "tiny"}, AWARE, MIXING, {"preset": "resampler"}])
def test_gradient_reaches_every_parameter_within_two_steps(arguments: dict) -> None:
    torch.manual_seed(0)
    net = build(2, **arguments)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    x, target = torch.rand(2, 3, 12, 12), torch.rand(2, 3, 24, 24)
    for _ in range(2):
        optimizer.zero_grad()
        (net(x) - target).abs().mean().backward()
        optimizer.step()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # The features have the steering's and FiLM's zero weights above them in the first step only.
    assert silent == []


@pytest.mark.parametrize("arguments", [{"preset": "tiny"}, AWARE, MIXING])
def test_output_is_fp32_under_autocast_and_close(arguments: dict) -> None:
    net = awake(build(2, **arguments)).eval()
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        exact = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            out = net(x)
    assert out.dtype == torch.float32
    assert 0 < (out - exact).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize("arguments", [{"preset": "tiny"}, AWARE, MIXING])
def test_folding_changes_nothing_but_the_parameter_count(arguments: dict) -> None:
    net = awake(build(2, **arguments)).double().eval()
    x = torch.rand(1, 3, 9, 11).double()
    with torch.no_grad():
        before = net(x)
        assert net.fold() is net
        torch.testing.assert_close(net(x), before, rtol=0, atol=1e-6)
    assert not any(isinstance(m, RepConv3x3) for m in net.modules())
    assert sum(p.numel() for p in net.parameters()) == net.spec.parameters


@pytest.mark.parametrize(
    ("preset", "millions"), [("nano", 0.11), ("tiny", 0.16), ("small", 0.37), ("base", 0.87), ("large", 8.2)]
)
def test_sizes_of_the_presets(preset: str, millions: float) -> None:
    with torch.device("meta"):
        assert build(4, preset=preset).spec.parameters / 1e6 == pytest.approx(millions, rel=0.06)


@pytest.mark.parametrize("part", ["steer", "film", "gate"])
def test_each_content_aware_part_matters_and_can_be_switched_off(part: str) -> None:
    x, other = torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)

    def change(**switches: bool) -> float:
        """How far the content of another picture changes the result."""
        net = awake(build(2, **{**MIXING, "steer": False, "film": False, "gate": False, **switches})).eval()
        assert net.analyzer is not None
        with torch.no_grad():
            own = net(x)
            content = net.analyzer(other)
            net.analyzer.forward = lambda _: content  # type: ignore[method-assign]
            return (net(x) - own).abs().max().item()

    assert change(**{part: True}) > 1e-4
    names = [name for name, _ in build(2, **{**MIXING, part: False}).named_modules()]
    assert not any(part in name for name in names)


def test_without_content_there_is_no_analyzer() -> None:
    net = build(2, preset="nano")
    assert net.analyzer is None
    assert net.spec.size_multiple == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {**AWARE, "stages": 2},
        {"preset": "nano", "stages": 2},
        {"preset": "resampler"},
        {**MIXING, "stages": 1},
        {**MIXING, "stages": 2, "gate": False, "film": False},
    ],
)
def test_receptive_field_is_true_and_not_much_too_large(arguments: dict) -> None:
    net = awake(build(2, **arguments)).double().eval()
    radius, multiple = net.spec.receptive_field, net.spec.size_multiple
    assert radius is not None
    side = (2 * radius + 8) // 8 * 8 + 8
    x = torch.rand(1, 3, side, side).double()
    reach = 0
    for at in (side // 2, side // 2 + multiple - 1):
        moved = x.clone()
        moved[..., at, at] = 1 - moved[..., at, at]
        with torch.no_grad():
            changed = ((net(x) - net(moved)).abs().sum(1)[0] > 0).nonzero() // 2
        reach = max(reach, int((changed - at).abs().max()))
    assert reach <= radius
    assert reach >= 0.6 * radius


def test_tiles_at_multiples_agree_with_the_whole() -> None:
    net = awake(build(2, **{**MIXING, "stages": 1})).eval()
    multiple, radius = net.spec.size_multiple, net.spec.receptive_field
    assert multiple == 4
    assert radius is not None
    x = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        whole, tile = net(x), net(x[:, :, 2 * multiple :])
    inside = 2 * radius
    torch.testing.assert_close(tile[:, :, inside:], whole[:, :, 4 * multiple + inside :], rtol=0, atol=1e-5)


def test_last_layer_is_in_the_network() -> None:
    for net in (build(2, preset="nano"), resampler(scale=2)):
        assert any(net.last_layer is p for p in net.parameters())


def test_spec_arguments_rebuild_the_same_layout() -> None:
    net = build(2, **MIXING)
    again = build(**net.spec.arguments)
    assert again.spec == net.spec
    again.load_state_dict(net.state_dict())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 5}, "scale must be 1, 2, 3 or 4, got 5"),
        ({"preset": "tini"}, "did you mean 'tiny'"),
        ({**MIXING, "heads": 3}, "width (16) must be a multiple of heads, got 3"),
        ({**MIXING, "kernel_size": 6}, "kernel_size must be odd, got 6"),
        ({**MIXING, "share": 0.0}, "share must be above 0 and at most 1, got 0.0"),
        ({"preset": "tiny", "routing": "topk"}, "only a network with gated attention"),
        ({**MIXING, "kernel_channels": 17}, "kernel_channels must be 0..width (16), got 17"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, words: str) -> None:
    with pytest.raises(EngineError) as caught:
        build(**arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 3, 0, 8)])
def test_wrong_input_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"non-empty \(B, 3, H, W\)"):
        build(2, preset="resampler")(torch.zeros(shape))


def test_every_preset_is_documented_by_a_layout() -> None:
    assert list(LAYOUTS) == ["resampler", "nano", "tiny", "small", "base", "large"]


def test_topk_attends_to_the_hardest_windows_at_inference_alone() -> None:
    torch.manual_seed(0)
    net, x = awake(build(2, **MIXING)).eval(), torch.rand(2, 3, 24, 18)
    with torch.no_grad():
        dense = net(x)
        routed = net.set_routing("topk", 0.5)(x)
        routes = net.routes(x)
        torch.testing.assert_close(net(x, attend=[route.chosen for route in routes]), routed, rtol=0, atol=1e-6)
        assert torch.equal(net(x, attend=1.0), dense)
        # Always dense in training, where kernels are collapsed together: equal but for rounding.
        torch.testing.assert_close(net.train()(x), dense, rtol=0, atol=1e-5)
    assert (routed - dense).abs().max() > 1e-3
    assert len(routes) == 2
    for gate, chosen in routes:
        assert gate.shape == chosen.shape == (2, 1, 6, 5)
        assert chosen.sum((1, 2, 3)).tolist() == [15, 15]
        for picture in range(2):
            assert gate[picture][chosen[picture]].min() >= gate[picture][~chosen[picture]].max()


def test_topk_of_all_windows_is_dense() -> None:
    net, x = awake(build(2, **MIXING)).eval(), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        dense = net(x)
        assert torch.equal(net.set_routing("topk", 1.0)(x), dense)
        assert torch.equal(net.set_routing("dense", 0.5)(x), dense)
    assert all(route.chosen.all() for route in net.routes(x))


def test_windows_are_ranked_in_full_precision_under_autocast() -> None:
    net = awake(build(2, **MIXING, routing="topk", share=0.5)).eval()
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = net.routes(x)
        with torch.autocast("cpu", torch.bfloat16):
            routes = net.routes(x)
    for route, (gate, chosen) in zip(routes, expected, strict=True):
        assert torch.equal(route.gate, gate)
        assert torch.equal(route.chosen, chosen)


def test_routing_is_an_argument_that_a_file_keeps() -> None:
    net = build(2, **MIXING).set_routing("topk", 0.25)
    assert (net.spec.arguments["routing"], net.spec.arguments["share"]) == ("topk", 0.25)
    assert build(**net.spec.arguments).attention_share == 0.25
    assert net.set_routing("dense").attention_share == 1.0
    older = {k: v for k, v in net.spec.arguments.items() if k not in ("routing", "share")}
    assert build(**older).attention_share == 1.0


def test_a_network_without_gates_routes_densely() -> None:
    x = torch.rand(1, 3, 9, 8)
    net = build(2, **{**MIXING, "gate": False})
    assert [route.chosen.all().item() for route in net.routes(x)] == [True, True]
    assert torch.equal(net.routes(x)[0].gate, torch.ones(1, 1, 3, 2))
    assert build(2, preset="nano").routes(x) == []
    with pytest.raises(EngineError, match="only a network with gated attention"):
        net.set_routing("topk")
    with pytest.raises(EngineError, match="only a network with gated attention"):
        net.eval()(x, attend=0.5)
    with pytest.raises(EngineError, match=r"share must be above 0 and at most 1, got 1\.5"):
        build(2, **MIXING).routes(x, 1.5)


def test_sharpness_is_as_learned_at_one_and_bends_the_upsampler() -> None:
    net, x = awake(build(2, preset="nano", stages=2)).eval(), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(net(x, sharpness=1.0), net(x))
        assert (net(x, sharpness=1.5) - net(x)).abs().max() > 1e-2


def test_exported_and_compiled_networks_choose_the_same_windows() -> None:
    net, x = awake(build(2, **{**MIXING, "stages": 1}, routing="topk", share=0.5)).eval(), torch.rand(1, 3, 17, 12)
    with torch.no_grad():
        expected = net(x)
        for other in (torch.export.export(net, (x,)).module(), torch.compile(net, backend="aot_eager", fullgraph=True)):
            torch.testing.assert_close(other(x), expected, rtol=0, atol=1e-5)
