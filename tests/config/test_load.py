"""From text to a Config: what is accepted, what is filled in, and that it survives a dump."""

from pathlib import Path

import pytest

from sr_engine.config.changes import changed_keys
from sr_engine.config.load import dump_config, load_config, parse_config
from sr_engine.config.schema import Typed
from sr_engine.errors import ConfigError

pytestmark = pytest.mark.usefixtures("entries")


def test_defaults_are_filled_in(complete: str) -> None:
    config = parse_config(complete)
    assert config.network_g == Typed(type="generator", arguments={"width": 32, "preset": "tiny"})
    assert config.network_d is None
    assert config.datasets.train.arguments == {
        "path": "photos",
        "degradation": "bicubic",
        "threshold": 0.5,
        "copy": True,
        "powers": 1,
    }
    assert config.training.optim_g.type == "AdamW"
    assert config.training.optim_g.arguments["lr"] == 1e-3
    assert config.training.optim_g.arguments["betas"] == [0.9, 0.99]
    assert config.training.scheduler == Typed(type="cosine", arguments={"warmup_iter": 0, "min_lr": 1e-6})
    assert config.losses["l1"].loss_weight.at(5, 100) == 1.0


def test_flags_of_optimisers_that_are_off_are_left_to_torch(complete: str) -> None:
    arguments = parse_config(complete).training.optim_g.arguments
    assert set(arguments) == {"lr", "betas", "eps", "weight_decay"}
    given = parse_config(complete + "  optim_g: {type: sgd, nesterov: false}\n").training.optim_g
    assert given.type == "SGD"
    assert given.arguments["nesterov"] is False


def test_dump_reads_back_equal(complete: str) -> None:
    text = complete.replace("l1: {}", "main: {type: l1, loss_weight: {final_weight: 2, ramp: cosine}, eps: 1}")
    config = parse_config(text, overrides=["name=no", "training.balance=grad_ratio", "training.grad_clip=null"])
    dumped = dump_config(config)
    assert parse_config(dumped) == config
    assert dump_config(parse_config(dumped)) == dumped
    assert "validate_every: 1000" in dumped


def test_a_constant_weight_is_dumped_as_a_number(complete: str) -> None:
    assert "loss_weight: 0.25" in dump_config(parse_config(complete, overrides=["losses.l1.loss_weight=0.25"]))


def test_the_scale_of_the_network_is_that_of_the_configuration(complete: str) -> None:
    assert "scale" not in parse_config(complete + "network_g: {scale: 4}\n").network_g.arguments
    with pytest.raises(ConfigError, match=r"^c:9: network_g.scale: expected 4, .* got 2$"):
        parse_config(complete + "network_g: {scale: 2}\n", "c")


def test_mappings_for_typed_dictionaries_and_dataclasses(complete: str) -> None:
    blur = parse_config(complete, overrides=["datasets.train.degradation={sigma: 1, sizes: [3, 5]}"])
    assert blur.datasets.train.arguments["degradation"] == {"sigma": 1.0, "sizes": [3, 5]}
    noise = parse_config(complete, overrides=["datasets.train.degradation={}"])
    assert noise.datasets.train.arguments["degradation"] == {"level": 1.0}
    assert parse_config(dump_config(blur)) == blur
    assert parse_config(dump_config(noise)) == noise


def test_load_from_is_relative_to_the_current_folder_else_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complete: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    file = tmp_path / "there" / "c.yml"
    file.write_text(complete + "load_from: model.safetensors\n")
    monkeypatch.chdir(tmp_path / "here")
    assert load_config(file).load_from == "model.safetensors"  # perhaps the name of a model
    (tmp_path / "there" / "model.safetensors").touch()
    assert load_config(file).load_from == str(tmp_path / "there" / "model.safetensors")
    (tmp_path / "here" / "model.safetensors").touch()
    assert load_config(file).load_from == str(tmp_path / "here" / "model.safetensors")


def test_the_teacher_is_found_like_load_from(tmp_path: Path, complete: str) -> None:
    file = tmp_path / "c.yml"
    file.write_text(complete + "distill: {teacher: wise.pth, features: {student: [0], teacher: [layers.1]}}\n")
    config = load_config(file)
    assert config.distill is not None
    assert config.distill.teacher == "wise.pth"  # perhaps the name of a model
    (tmp_path / "wise.pth").touch()
    config = load_config(file)
    assert config.distill is not None
    assert config.distill.teacher == str(tmp_path / "wise.pth")
    assert parse_config(dump_config(config)) == config
    assert [loss.loss_weight.at(0, 100) for loss in config.distill.losses().values()] == [1, 1]


def test_plugins_register_types(tmp_path: Path, complete: str) -> None:
    (tmp_path / "own.py").write_text(
        "from sr_engine.config import registry\n\n"
        "@registry.register('loss', 'own')\n"
        "class Own:\n"
        "    def __init__(self, *, power: float = 2.0): ...\n"
    )
    file = tmp_path / "c.yml"
    file.write_text(complete.replace("l1: {}", "own: {power: 3}") + "plugins: [own.py]\n")
    config = load_config(file)
    assert config.losses["own"].arguments == {"power": 3.0}
    assert config.plugins == [str(tmp_path / "own.py")]
    assert parse_config(dump_config(config)) == config


def test_a_plugin_that_fails_is_named(tmp_path: Path, complete: str) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    file = tmp_path / "c.yml"
    file.write_text(complete + "plugins: [bad.py, missing.py]\n")
    with pytest.raises(ConfigError) as error:
        load_config(file)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{file}:9: plugins.0: expected a plugin that can be imported")
    assert "ModuleNotFoundError" in first
    assert second.startswith(f"{file}:9: plugins.1: expected a Python file")


def test_names_that_are_too_long_are_problems_like_others(complete: str) -> None:
    name = "a" * 5000
    assert parse_config(complete, overrides=[f"load_from={name}"]).load_from == name  # the loader says what is wrong
    with pytest.raises(ConfigError, match=r"^command line: plugins\.0: expected a Python file, got .* cannot be read"):
        parse_config(complete, overrides=[f"plugins=[{name}]"])


@pytest.mark.parametrize("place", ["", "plugins."])
def test_numbers_of_items_that_no_list_has(complete: str, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"^command line: {place}9999.*: expected"):
        parse_config(complete, overrides=["plugins=[]", f"{place}{'9' * 5000}=1"])


def test_keys_of_the_command_line_have_a_limit(complete: str) -> None:
    with pytest.raises(ConfigError, match=r"^command line: expected a key of at most 50 parts, got 3001$"):
        parse_config(complete, overrides=[f"plugins.{'.'.join('a' * 3000)}=1"])


def test_changed_keys_lists_each_difference(complete: str) -> None:
    old = parse_config(complete, overrides=["losses.old={type: l1}"])
    new = parse_config(
        complete,
        overrides=["training.total_iter=200", "training.optim_g.lr=1e-4", "losses.new={type: l1, loss_weight: 2}"],
    )
    assert changed_keys(old, old) == []
    assert changed_keys(old, new) == [
        "losses.old: removed (was {type: 'l1', loss_weight: 1.0, eps: 0.001})",
        "losses.new: added {type: 'l1', loss_weight: 2.0, eps: 0.001}",
        "training.total_iter: 100 -> 200",
        "training.optim_g.lr: 0.001 -> 0.0001",
    ]
