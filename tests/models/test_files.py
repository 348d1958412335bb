import json
import math
import resource
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from sr_engine.errors import ModelFileError
from sr_engine.layers.reparam import RepConv3x3
from sr_engine.models import files
from sr_engine.models.files import available_models, load_model, save_model
from sr_engine.models.generator import Generator
from sr_engine.models.spec import HasSpec, ModelSpec


@pytest.fixture
def net() -> Generator:
    torch.manual_seed(0)
    net = Generator(scale=2, preset="nano", width=8, stages=1)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net.eval()


def describe(path: Path, net: Generator, **changes: object) -> Path:
    """A file of `net` whose spec says something else."""
    save_model(path, net)
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["sr_engine"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    description["spec"] |= changes
    save_file(tensors, path, metadata={"sr_engine": json.dumps(description)})
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": ["generator"]}, "spec: architecture cannot be"),
        ({"arguments": "scale"}, "spec: arguments cannot be"),
        ({"scale": "2"}, "spec: scale, channels or size_multiple cannot be"),
        ({"scale": 10**12}, "spec: scale, channels or size_multiple cannot be"),
        ({"value_range": [0, float("nan")]}, "spec: value_range, parameters"),
        ({"value_range": [0, 1, 2]}, "spec: value_range cannot be"),
        ({"receptive_field": "far"}, "receptive_field cannot be"),
        ({"training": []}, "spec: training cannot be"),
        ({"licence": None}, "spec: licence cannot be"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
    ],
)
def test_a_spec_of_wrong_types_is_refused(net: Generator, tmp_path: Path, changes: dict, words: str) -> None:
    path = describe(tmp_path / "a.safetensors", net, **changes)
    with pytest.raises(ModelFileError, match=rf"^{path}: the description in the file is damaged .*{words}"):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("width", 10**9, r"asks for 1e\+09 of something, where all its weights are [\d,]+ numbers\.$"),
        ("stages", 10**9, r"asks for 1e\+09 of something"),
        ("inner", [[10**12, 8]], r"asks for 1e\+12 of something"),
        ("width", 4000, r"asks for a network much larger than its weights, which are [\d,]+ numbers\.$"),
        ("stages", 4000, "asks for a network much larger than its weights"),
        ("reach", 4000, "asks for a network much larger than its weights"),
        ("width", "wide", "makes no network|cannot build a network"),
        ("width", -3, "width must be at least 1"),
        ("kernel_size", 1e400, "makes no network|asks for|kernel_size must be odd"),
    ],
)
def test_a_description_cannot_ask_for_more_than_its_weights(
    net: Generator, tmp_path: Path, name: str, value: object, words: str
) -> None:
    path = describe(tmp_path / "a.safetensors", net, arguments=net.spec.arguments | {name: value})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError, match=rf"^{path}: .*({words})"):
        load_model(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.parametrize(("value", "words"), [(math.nan, "has NaN"), (-math.inf, "has infinite numbers")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e5m2])
def test_weights_that_are_no_numbers_are_refused(
    net: Generator, tmp_path: Path, value: float, words: str, dtype: torch.dtype
) -> None:
    state = {name: weight.clone() for name, weight in net.state_dict().items()}
    state["tail.weight"].view(-1)[5] = value
    save_model(tmp_path / "a.safetensors", net, state={name: weight.to(dtype) for name, weight in state.items()})
    with pytest.raises(ModelFileError, match=rf"a\.safetensors: weight 'tail\.weight' {words}; save or download"):
        load_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_of_another_kind_are_refused(net: Generator, tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: weight.to(dtype) if name == "tail.weight" else weight for name, weight in net.state_dict().items()}
    save_model(tmp_path / "a.safetensors", net)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        save_file(state, tmp_path / "b.safetensors", metadata=file.metadata())
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(ModelFileError, match=rf"weight 'tail\.weight' does not fit .*: expected float32, got {kind}\."):
        load_model(tmp_path / "b.safetensors")


def test_a_description_nested_too_deep_is_refused(net: Generator, tmp_path: Path) -> None:
    save_file({}, tmp_path / "a.safetensors", metadata={"sr_engine": "[" * 100_000})
    with pytest.raises(ModelFileError, match="the description in the file is damaged"):
        load_model(tmp_path / "a.safetensors")


def spec_of(name_or_path: str | Path) -> ModelSpec:
    return cast(HasSpec, load_model(name_or_path)).spec


def edit(path: Path, **changes: object) -> None:
    """Rewrite the description in a model file."""
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["sr_engine"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={"sr_engine": json.dumps(description | changes)})


@pytest.mark.parametrize("fold", [False, True])
def test_the_file_alone_gives_the_network_back(net: Generator, tmp_path: Path, fold: bool) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, net, training={"steps": 7, "data": ["a", "b"]}, licence="CC0-1.0")
    loaded = load_model(path, fold=fold)
    assert isinstance(loaded, Generator)
    assert not loaded.training
    assert loaded.spec.training == {"steps": 7, "data": ["a", "b"]}
    assert loaded.spec.licence == "CC0-1.0"
    assert (loaded.spec.scale, loaded.spec.parameters) == (2, net.spec.parameters)
    assert any(isinstance(m, RepConv3x3) for m in loaded.modules()) is not fold
    x = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), net(x), rtol=1e-5, atol=1e-5)


def test_a_folded_network_saves_and_loads(net: Generator, tmp_path: Path) -> None:
    x = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        expected = net.fold()(x)
        save_model(tmp_path / "m.safetensors", net)
        assert torch.equal(load_model(tmp_path / "m.safetensors")(x), expected)


def test_other_weights_can_be_saved_in_its_place(net: Generator, tmp_path: Path) -> None:
    average = {name: tensor / 2 for name, tensor in net.state_dict().items()}
    save_model(tmp_path / "m.safetensors", net, state=average)
    loaded = load_model(tmp_path / "m.safetensors", fold=False).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in average.items())


def test_provenance_survives_loading_and_saving(net: Generator, tmp_path: Path) -> None:
    save_model(tmp_path / "a.safetensors", net, training={"steps": 7}, licence="CC0-1.0")
    save_model(tmp_path / "b.safetensors", load_model(tmp_path / "a.safetensors"))
    assert spec_of(tmp_path / "b.safetensors").training == {"steps": 7}
    assert spec_of(tmp_path / "b.safetensors").licence == "CC0-1.0"


def test_a_run_folder_stands_for_its_model(net: Generator, tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", net)
    assert spec_of(tmp_path).scale == 2


def test_shipped_models_have_names(net: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHIPPED", tmp_path)
    assert available_models() == []
    save_model(tmp_path / "tiny-x2.safetensors", net)
    assert available_models() == ["tiny-x2"]
    assert spec_of("tiny-x2").scale == 2
    with pytest.raises(ModelFileError, match="did you mean 'tiny-x2'"):
        load_model("tini-x2")


def test_missing_file() -> None:
    with pytest.raises(ModelFileError, match=r"'no/such.safetensors' is neither a file nor a name"):
        load_model("no/such.safetensors")


def test_empty_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"has no model\.safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_truncated_file(net: Generator, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, net)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(ModelFileError, match="not a complete safetensors file"):
        load_model(path)


def test_foreign_files(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="not a model file of sr-engine"):
        load_model(tmp_path / "other.safetensors")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelFileError, match="not a complete safetensors file"):
        load_model(tmp_path / "picture.png")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 99}, "has format 99, this version reads"),
        ({"format": "x"}, "description in the file is damaged"),
        ({"spec": {}}, "description in the file is damaged"),
        (
            {"spec": {"architecture": "transformer9", "arguments": {}, "scale": 2, "value_range": [0, 1]}},
            "transformer9",
        ),
        (
            {"spec": {"architecture": "generator", "arguments": {"warp": 1}, "scale": 2, "value_range": [0, 1]}},
            "unexpected keyword argument 'warp'",
        ),
        (
            {"spec": {"architecture": "generator", "arguments": {"scale": 2}, "scale": 2, "value_range": [0, 1]}},
            "does not fit the network",
        ),
    ],
)
def test_a_description_that_this_version_cannot_use(net: Generator, tmp_path: Path, changes: dict, words: str) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, net)
    edit(path, **changes)
    with pytest.raises(ModelFileError, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_weights_of_another_network_are_refused_before_writing(net: Generator, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, net)
    before = path.read_bytes()
    with pytest.raises(ModelFileError, match="does not fit the network"):
        save_model(path, net, state={"tail.weight": torch.zeros(1)})
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_file(net: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, net)
    before = path.read_bytes()

    def full(target: Path, content: bytes) -> None:
        with target.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ModelFileError, match="No space left on device"):
            save_model(path, net)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_only_networks_that_describe_themselves_are_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot save a Linear"):
        save_model(tmp_path / "m.safetensors", nn.Linear(1, 1))
