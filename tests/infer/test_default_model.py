"""Without a model named: the one that comes along for the scale and the kind of file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sr_engine.errors import EngineError, ImageFileError, ModelFileError
from sr_engine.infer.default_model import choose, default_model, scale_for
from sr_engine.infer.files import upscale_paths
from sr_engine.infer.model_choice import DefaultModels
from sr_engine.infer.request import Request
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models import files
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator

Ship = Callable[..., None]
ALL = ("tiny-x2", "tiny-x2-photo", "tiny-x4", "tiny-x4-photo")


@pytest.fixture
def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ship:
    """`ship("tiny-x2", ...)`: these small networks come with the package, and no others."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(files, "SHIPPED", folder)

    def put(*names: str) -> None:
        for name in names:
            torch.manual_seed(0)
            net = Generator(scale=2 if "-x2" in name else 4, preset="nano", width=8, stages=1)
            save_model(folder / f"{name}.safetensors", net)

    return put


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two JPEGs, one of them called PNG, a lossy WebP and two PNGs."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8))
    picture.save(folder / "a.jpg")
    picture.save(folder / "named_so.png", "JPEG")
    picture.save(folder / "b.webp", quality=80)
    picture.save(folder / "c.png")
    picture.save(folder / "deep" / "d.png")
    return folder


@pytest.mark.parametrize(
    ("there", "scale", "lossy", "expected"),
    [
        (ALL, 4, False, "tiny-x4"),
        (ALL, 4, True, "tiny-x4-photo"),
        (ALL, 2, False, "tiny-x2"),
        (ALL, 2, True, "tiny-x2-photo"),
        (("tiny-x4",), 4, True, "tiny-x4"),
        (("tiny-x4-photo",), 4, False, "tiny-x4-photo"),
    ],
)
def test_scale_and_kind_decide(ship: Ship, there: tuple[str, ...], scale: int, lossy: bool, expected: str) -> None:
    ship(*there)
    assert default_model(scale, lossy=lossy) == expected


def test_no_model_of_the_scale_is_one_sentence_with_what_there_is(ship: Ship) -> None:
    ship("tiny-x2", "tiny-x4")
    expected = r"none for scale 3 comes .* only tiny-x2, tiny-x4: .* --model mks2021 --scale 3\.$"
    with pytest.raises(ModelFileError, match=expected) as caught:
        default_model(3)
    assert "\n" not in str(caught.value)


def test_no_model_at_all(ship: Ship) -> None:
    with pytest.raises(ModelFileError, match=r"none comes with this version: train one .* mks2021 --scale 4"):
        default_model()


def test_each_model_has_one_line_with_counts(ship: Ship, pictures: Path) -> None:
    ship(*ALL)
    choice = choose(sorted(pictures.rglob("*.*")))
    assert {path.name: model for path, model in choice.models.items()} == {
        "a.jpg": "tiny-x4-photo",
        "b.webp": "tiny-x4-photo",
        "c.png": "tiny-x4",
        "d.png": "tiny-x4",
        "named_so.png": "tiny-x4-photo",
    }
    assert choice.reasons == [
        "2 pictures have no lossy compression: tiny-x4 (--model tiny-x4-photo if they were JPEGs before)",
        "3 pictures are lossy (2 JPEG, 1 lossy WebP): tiny-x4-photo "
        "(made for noise and JPEG artefacts; --model tiny-x4 for clean pictures)",
    ]


def test_the_line_of_a_single_picture_names_it(ship: Ship, pictures: Path) -> None:
    ship(*ALL)
    assert choose([pictures / "a.jpg"], 2).reasons == [
        "a.jpg is a JPEG: tiny-x2-photo (made for noise and JPEG artefacts; --model tiny-x2 for clean pictures)"
    ]
    assert choose([pictures / "c.png"], 2).reasons == [
        "c.png has no lossy compression: tiny-x2 (--model tiny-x2-photo if it was a JPEG before)"
    ]


def test_the_only_model_is_taken_without_a_word_about_the_other(ship: Ship, pictures: Path) -> None:
    ship("tiny-x2")
    assert choose([pictures / "a.jpg"], 2).reasons == ["a.jpg: tiny-x2"]
    assert choose(sorted(pictures.rglob("*.*")), 2).reasons == ["5 pictures: tiny-x2"]


def test_a_mixed_folder_loads_each_network_once(ship: Ship, pictures: Path, tmp_path: Path) -> None:
    ship(*ALL)
    made, said = [], []

    def make(name: str) -> Upscaler:
        made.append(name)
        return Upscaler(name, device="cpu")

    request = Request(scale=2)
    models = DefaultModels(make, request.factor, said.append)
    outcomes = upscale_paths(models, [pictures], tmp_path / "out", request=request)
    assert sorted(made) == ["tiny-x2", "tiny-x2-photo"]
    assert [outcome.error for outcome in outcomes] == [None] * 5
    assert len(said) == 2
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.png")) == [
        *("a_x2.png", "b_x2.png", "c_x2.png", "d_x2.png", "named_so_x2.png")
    ]


def test_pictures_go_through_the_model_of_their_kind(ship: Ship, pictures: Path, tmp_path: Path) -> None:
    ship(*ALL)
    used = []

    def make(name: str) -> Upscaler:
        up = Upscaler(name, device="cpu")
        up.net.register_forward_pre_hook(lambda *_: used.append(name))
        return up

    models = DefaultModels(make, Request().factor)
    upscale_paths(models, [pictures / "a.jpg", pictures / "c.png"], tmp_path / "out")
    assert used == ["tiny-x4-photo", "tiny-x4"]


@pytest.mark.parametrize(("factor", "scale"), [(None, 4), (0.5, 2), (1.5, 2), (2, 2), (2.01, 4), (4, 4), (7, 4)])
def test_any_factor_has_a_model(ship: Ship, factor: float | None, scale: int) -> None:
    ship(*ALL)
    assert scale_for(factor) == scale


def test_a_size_chooses_for_each_picture(ship: Ship, tmp_path: Path) -> None:
    ship("tiny-x2", "tiny-x4")
    for side in (10, 20, 60):
        Image.new("RGB", (side, side), (90, 90, 90)).save(tmp_path / f"{side}.png")
    request = Request(geometry="40x40")
    models = DefaultModels(partial(Upscaler, device="cpu"), request.factor)
    outcomes = upscale_paths(
        models, [tmp_path / f"{side}.png" for side in (10, 20, 60)], tmp_path / "o", request=request
    )
    assert [models.name(outcome.job.source) for outcome in outcomes] == ["tiny-x4", "tiny-x2", "tiny-x2"]
    assert [outcome.size for outcome in outcomes] == [(40, 40)] * 3
    assert "Magic Kernel Sharp alone" in outcomes[2].notes[0]


def test_what_can_be_known_before_is_checked_before_a_network_is_loaded(
    ship: Ship, pictures: Path, tmp_path: Path
) -> None:
    ship("tiny-x4")
    models = DefaultModels(lambda _: pytest.fail("a network was loaded"), Request().factor)
    with pytest.raises(ImageFileError, match=r"gone\.png: does not exist"):
        upscale_paths(models, [pictures / "gone.png"], tmp_path / "out")
    with pytest.raises(ImageFileError, match=r"cannot write '\.xyz' files"):
        upscale_paths(models, [pictures / "a.jpg"], tmp_path / "out.xyz")


def test_an_upscaler_in_python_without_a_name(ship: Ship) -> None:
    ship("tiny-x2", "tiny-x4", "tiny-x4-photo")
    assert (Upscaler(device="cpu").name, Upscaler(scale=2, device="cpu").name) == ("tiny-x4", "tiny-x2")
    assert Upscaler(device="cpu")(np.zeros((3, 5), np.uint8)).shape == (12, 20)
    with pytest.raises(EngineError, match="none for scale 3"):
        Upscaler(scale=3)
    with pytest.raises(EngineError, match="upscales by 4, not by 2: leave the scale out"):
        Upscaler("tiny-x4", scale=2)
