"""`network_g: {type: spandrel, ...}`: arguments are checked by the signature of the network's class."""

import pytest

from sr_engine.cli.registrations import load_all
from sr_engine.config.load import dump_config, parse_config
from sr_engine.config.schema import Config
from sr_engine.errors import ConfigError
from sr_engine.models.community import arches, spandrel, tried

pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")


def parse(network: str, *more: str) -> Config:
    load_all()
    lines = ["name: x", "scale: 2", "datasets: {train: {type: demo}}", "losses: {pixel: {type: l1}}"]
    lines += ["training: {total_iter: 3}", "network_g:", "  type: spandrel", *network.splitlines(), *more]
    return parse_config("\n".join(lines), "x.yml")


def test_arguments_and_defaults_are_those_of_the_class() -> None:
    given = parse("  arch: swinir\n  embed_dim: 12\n  depths: [2, 2]\n  upsampler: pixelshuffle").network_g.arguments
    assert given | {"arch": "swinir", "embed_dim": 12, "depths": [2, 2], "mlp_ratio": 4.0, "window_size": 7} == given
    assert "upscale" not in given  # follows the scale
    assert "norm_layer" not in given


def test_the_resolved_configuration_reads_back() -> None:
    for network in ("  arch: HAT\n  upscale: 2", "  arch: RealPLKSR", "  arch: esrgan\n  num_blocks: 3"):
        config = parse(network)
        assert parse_config(dump_config(config)) == config


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ("  arch: SwinR", "x.yml:8: network_g.arch: expected an architecture of spandrel, got 'SwinR' (did you mean"),
        ("  arch: 3", "x.yml:8: network_g.arch: expected the name of an architecture, got 3"),
        (
            "  arch: SwinIR\n  embed_dmi: 60",
            "x.yml:9: network_g.embed_dmi: expected a known key, got 'embed_dmi' (did you mean 'embed_dim'?)",
        ),
        (
            "  arch: SwinIR\n  embed_dim: wide",
            "x.yml:9: network_g.embed_dim: expected a whole number or a list, got 'w",
        ),
        ("  arch: SwinIR\n  qkv_bias: 1", "x.yml:9: network_g.qkv_bias: expected true or false, got 1"),
        ("  arch: SPAN\n  num_in_ch: 3", "x.yml:6: network_g.num_out_ch: expected a value, which is required"),
        (
            "  arch: SwinIR\n  upscale: 4",
            "x.yml:9: network_g.upscale: expected 2, which follows from the scale of the configuration, got 4",
        ),
        ("  arch: ESRGAN\n  scale: 4", "x.yml:9: network_g.scale: expected 2, the scale of this configuration, got 4"),
        (
            "  embed_dim: 60\nload_from: x.pth",
            "x.yml:8: network_g.embed_dim: expected one of the keys arch, got 'embed_dim'",
        ),
        ("", "x.yml:6: network_g: expected arch, such as SwinIR, or load_from"),
    ],
)
def test_problems_have_a_line(network: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(network)
    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)


def test_an_unshuffling_network_takes_the_product() -> None:
    assert parse("  arch: SwinIR\n  start_unshuffle: 2\n  upscale: 4").network_g.arguments["upscale"] == 4
    net = spandrel(scale=2, arch="ESRGAN", in_nc=12, shuffle_factor=2, num_filters=8, num_blocks=1)
    assert net.scale == 2
    assert net.spec.size_multiple % 4 == 0


def test_what_only_the_network_can_refuse() -> None:
    with pytest.raises(ConfigError, match="SwinIR with these arguments upscales by 1, not by 2"):
        spandrel(scale=2, arch="SwinIR", embed_dim=12, depths=[1], num_heads=[2], window_size=8)
    with pytest.raises(ConfigError, match="SwinIR cannot be made with these arguments"):
        spandrel(scale=2, arch="SwinIR", embed_dim=12, depths=[2], num_heads=[])
    uneven = spandrel(scale=2, arch="SwinIR", embed_dim=13, depths=[1], num_heads=[2], upsampler="pixelshuffle")
    with pytest.raises(ConfigError, match="SwinIR does not run with these arguments"):
        tried(uneven)
    with pytest.raises(ConfigError, match="ESRGAN maps 3 channels to 1"):
        spandrel(scale=2, arch="ESRGAN", out_nc=1, num_filters=8, num_blocks=1)


def test_every_architecture_can_be_described() -> None:
    """Names, defaults and hints of all classes make a schema, whatever those classes are annotated with."""
    from sr_engine.config.signature import signature_model

    names = sorted({arch.name for arch in arches._catalogue().values()})
    assert {"SwinIR", "HAT", "DAT", "ESRGAN", "SPAN", "RealPLKSR", "Compact"} <= set(names)
    for name in names:
        model = signature_model(arches.signature(arches.find(name)), without={"scale"})
        assert "arch" in {field.alias for field in model.model_fields.values()}


def test_load_from_alone_is_enough() -> None:
    assert "arch" not in parse("", "load_from: net.pth").network_g.arguments
