"""Networks, learning rates, data: what carries over exactly and what does not."""

import inspect
from importlib import import_module
from typing import Any

import pytest

from sr_engine.convert.networks import ARGUMENTS, BASICSR, NEOSR, SCALES, TRAINNER
from sr_engine.convert.optimisers import OPTIMISERS
from tests.convert.samples import ABSENT, Change, outcome, reason


def test_a_network_without_an_equal_leaves_its_weights_behind(change: Change) -> None:
    t = change("basicsr_swinir", {"network_g": {"type": "EDSR", "num_feat": 64}})
    assert "no network like EDSR" in reason(t, "network_g.type")
    assert t.out["network_g"] == {"type": "generator", "preset": "small"}
    assert "load_from" not in t.out
    assert "do not fit" in reason(t, "path.pretrain_network_g")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"scale": 3}, "scale 1, 2, 4 only"),
        ({"network_g.num_grow_ch": 16}, "num_grow_ch of ESRGAN is always 32"),
        ({"network_g.num_in_ch": 1}, "see RGB"),
        ({"network_g.scale": 2}, "network_g.scale is 2 but scale is 4"),
        ({"network_g.depth": 2}, "has no argument depth"),
    ],
)
def test_a_network_that_is_not_the_one_of_spandrel(change: Change, values: dict[str, Any], why: str) -> None:
    t = change("basicsr_realesrgan", values)
    assert why in reason(t, "network_g.type")
    assert t.out["network_g"]["type"] == "generator"


def test_an_rrdbnet_below_x4_folds_its_input(change: Change) -> None:
    t = change("basicsr_realesrgan", {"scale": 2})
    assert t.out["network_g"]["in_nc"] == 12
    assert t.out["network_g"]["shuffle_factor"] == 2


def test_weights_are_found_as_there(change: Change) -> None:
    t = change("basicsr_swinir")
    assert (t.out["param_key_g"], t.out["strict_load_g"]) == ("params_ema", False)
    t = change("basicsr_swinir", {"path.param_key_g": ABSENT})
    assert any(row.target == "param_key_g" and "params" in row.note for row in t.added)


def test_variants_are_written_out(change: Change) -> None:
    t = change("redux_otf_gan", {"network_g": {"type": "HAT_S", "window_size": 8}})
    network = t.out["network_g"]
    assert (network["arch"], network["embed_dim"], network["compress_ratio"]) == ("HAT", 144, 24)
    assert network["window_size"] == 8  # the file's word counts
    t = change("redux_otf_gan", {"network_g": {"type": "span"}})
    assert "give network_g.feature_channels" in reason(t, "network_g.type")


def test_arguments_are_those_of_spandrel() -> None:
    pytest.importorskip("spandrel")
    extra = pytest.importorskip("spandrel_extra_arches")
    from spandrel import MAIN_REGISTRY  # pyright: ignore[reportMissingImports]

    extra.install(ignore_duplicates=True)
    known = {item.architecture.id for item in MAIN_REGISTRY.architectures()}
    assert set(ARGUMENTS) - {"RealPLKSR"} <= known  # a second class of PLKSR
    for arch, names in ARGUMENTS.items():
        parameters = inspect.signature(_class_of(arch).__init__).parameters
        assert names <= set(parameters), (arch, names - set(parameters))
        assert set(SCALES) & set(parameters)


def test_every_variant_is_an_argument_list() -> None:
    for spellings in (BASICSR, TRAINNER, NEOSR):
        for name, spelling in spellings.items():
            variant = spelling.variant
            names = {*variant.fixed, *variant.open, *spelling.names.values()}
            assert names <= ARGUMENTS[variant.arch], name


def _class_of(arch: str) -> Any:
    package = "spandrel_extra_arches" if arch == "SRFormer" else "spandrel"
    module = import_module(f"{package}.architectures.{'PLKSR' if arch == 'RealPLKSR' else arch}")
    return getattr(module, arch)


def test_optimisers_are_torch_optimisers() -> None:
    import torch

    for name, arguments in OPTIMISERS.values():
        assert set(arguments) <= set(inspect.signature(getattr(torch.optim, name)).parameters)


def test_betas_that_a_file_leaves_out_are_those_of_torch(change: Change) -> None:
    t = change("basicsr_swinir", {"train.optim_g.betas": ABSENT})
    assert t.out["training"]["optim_g"]["betas"] == [0.9, 0.999]


def test_an_optimiser_that_torch_has_not(change: Change) -> None:
    t = change("basicsr_swinir", {"train.optim_g.type": "Lion"})
    assert "AdamW stands in" in reason(t, "train.optim_g.type")
    assert outcome(t, "train.optim_g.lr") == "no equal"
    assert t.out["training"]["optim_g"]["type"] == "AdamW"


@pytest.mark.parametrize(
    "scheduler",
    [
        {"type": "CosineAnnealingRestartLR", "periods": [150000, 150000], "restart_weights": [1, 1]},
        {"type": "CosineAnnealingLR", "T_max": 100},
        {"type": "MultiStepRestartLR", "milestones": [5], "restarts": [0, 3]},
        {"type": "OneCycleLR"},
    ],
)
def test_learning_rates_without_an_equal(change: Change, scheduler: dict[str, Any]) -> None:
    t = change("basicsr_swinir", {"train.scheduler": scheduler})
    assert outcome(t, "train.scheduler.type") == "no equal"
    assert t.out["training"]["scheduler"] == {"type": "constant"}


def test_a_warm_up_before_a_cosine(change: Change) -> None:
    t = change("basicsr_realesrgan")
    assert "begins after the warm-up" in reason(t, "train.warmup_iter")
    near = change("basicsr_realesrgan", nearest=True)
    assert near.out["training"]["scheduler"]["warmup_iter"] == 1000


@pytest.mark.parametrize(
    ("flips", "turns", "augment"),
    [(True, True, True), (False, False, False), (True, False, False), (ABSENT, ABSENT, None)],
)
def test_augment_flips_and_turns(change: Change, flips: Any, turns: Any, augment: bool | None) -> None:
    t = change("redux_otf_gan", {"datasets.train.use_hflip": flips, "datasets.train.use_rot": turns})
    assert t.out["datasets"]["train"].get("augment") is augment


def test_a_patch_that_is_no_multiple_of_the_scale(change: Change) -> None:
    t = change("basicsr_swinir", {"datasets.train.gt_size": 190})
    assert "no multiple of the scale 4" in reason(t, "datasets.train.gt_size")
    assert "patch_size" not in t.out["training"]


def test_words_of_yaml_1_1_are_booleans(change: Change) -> None:
    t = change("redux_otf_gan", {"use_amp": "yes", "amp_bf16": "on", "use_compile": "off"})
    assert t.out["training"]["precision"] == "bf16"
    assert t.out["training"]["compile"] is False


def test_validation_that_is_off(change: Change) -> None:
    t = change("redux_otf_gan", {"val.val_enabled": False})
    assert t.out["datasets"]["val"] is None
    assert outcome(t, "datasets.val.dataroot_gt") == "no equal"


def test_an_unknown_key_is_listed(change: Change) -> None:
    t = change("basicsr_swinir", {"train.brand_new.thing": 1})
    assert reason(t, "train.brand_new.thing") == "not known to this converter"
    assert len({row.source for row in t.table() if row.source}) == len(t.leaves)


def test_a_random_seed_has_no_equal(change: Change) -> None:
    assert "random seed" in reason(change("basicsr_swinir", {"manual_seed": None}), "manual_seed")


@pytest.mark.parametrize(
    ("kind", "thousands"),  # weights at x4 as their papers count them
    [("swinir_s", 930), ("atd_light", 769), ("srformer_light", 873), ("safmn", 240), ("craft", 753)],
)
def test_light_variants_have_the_weights_of_their_papers(change: Change, kind: str, thousands: int) -> None:
    pytest.importorskip("spandrel_extra_arches")
    network = dict(change("redux_otf_gan", {"network_g": {"type": kind}}).out["network_g"])
    target = _class_of(network.pop("arch"))
    del network["type"]
    scale = next(name for name in SCALES if name in inspect.signature(target.__init__).parameters)
    net = target(**network, **{scale: 4})
    assert sum(p.numel() for p in net.parameters()) / 1000 == pytest.approx(thousands, abs=1)
