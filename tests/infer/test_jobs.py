"""Inputs found, results named."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from sr_engine.errors import EngineError, ImageFileError
from sr_engine.infer.jobs import Job, Naming, check_targets, find, is_single, plan


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)
    return path


def planned(inputs: Sequence[Path | str], out: Path, naming: Naming | None = None) -> list[Job]:
    found = find(inputs, out)
    return plan(found, out, naming or Naming(), single=is_single(inputs), model=lambda _: "some/net.pth")


def targets(jobs: list[Job], out: Path) -> list[str]:
    return [job.target.relative_to(out).as_posix() for job in jobs]


@pytest.mark.parametrize(
    ("inputs", "out", "expected"),
    [
        (["a.png"], "b.jpg", ["b.jpg"]),
        (["a.png"], "new", ["new/a_x4.png"]),
        (["a.png"], "folder", ["folder/a_x4.png"]),
        (["a.png", "b.png"], "new", ["new/a_x4.png", "new/b_x4.png"]),
        (["folder"], "new", ["new/in/d_x4.png"]),
        (["*.png"], "new", ["new/a_x4.png", "new/b_x4.png"]),
        (["**/*.png"], "new", ["new/a_x4.png", "new/b_x4.png", "new/d_x4.png"]),
        (["a.png", "*.png"], "new", ["new/a_x4.png", "new/b_x4.png"]),
    ],
)
def test_where_results_go(tmp_path: Path, inputs: list[str], out: str, expected: list[str]) -> None:
    for name in ("a.png", "b.png", "folder/in/d.png"):
        picture(tmp_path / name)
    assert targets(planned([str(tmp_path / name) for name in inputs], tmp_path / out), tmp_path) == expected


@pytest.mark.parametrize(
    ("naming", "expected"),
    [
        (Naming("{name}"), "p.png"),
        (Naming("{name}_big", form="webp"), "p_big.webp"),
        (Naming("{model}/{name}-{scale}", scale="2.5"), "net/p-2.5.png"),
        (Naming("{name}", form="same"), "p.jpg"),
        (Naming("{{{name}}}"), "{p}.png"),
    ],
)
def test_names_follow_their_pattern(tmp_path: Path, naming: Naming, expected: str) -> None:
    source = picture(tmp_path / "p.jpg")
    assert targets(planned([source], tmp_path / "out", naming), tmp_path / "out") == [expected]


@pytest.mark.parametrize(
    ("pattern", "form", "message"),
    [
        ("{nam}", None, r"name '\{nam\}' cannot be used: expected \{name\} in it"),
        ("big", None, r"expected \{name\} in it"),
        ("{name", None, "cannot be read"),
        ("{name}{}", None, "cannot be used"),
        ("../{name}", None, "leads out of the folder"),
        ("/{name}", None, "leads out of the folder"),
        ("{name}", "heic", "cannot write '.heic' files"),
        ("{name.__class__}", None, "cannot be used"),
    ],
)
def test_patterns_that_cannot_be(pattern: str, form: str | None, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        Naming(pattern, form=form)


def test_an_animation_keeps_its_kind_of_file(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    assert targets(planned([tmp_path], tmp_path / "out"), tmp_path / "out") == ["moves_x4.gif", "still_x4.png"]


def test_results_within_the_folder_of_inputs_are_not_upscaled_again(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "out" / "a_x4.png")
    assert targets(planned([tmp_path], tmp_path / "out"), tmp_path / "out") == ["a_x4.png"]
    picture(tmp_path / "a_x4.png")
    jobs = planned([tmp_path / "a.png", tmp_path / "a_x4.png"], tmp_path)
    assert [job.source.name for job in jobs] == ["a.png"], "the second is the result of the first"


def test_two_pictures_of_one_name_are_refused_and_told_how_to_go_apart(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "a.jpg")
    with pytest.raises(EngineError, match=r"a\.jpg and .*a\.png would both become .*a_x4\.png: .*--format same"):
        planned([tmp_path], tmp_path / "out")
    naming = Naming(form="same")
    assert targets(planned([tmp_path], tmp_path / "out", naming), tmp_path / "out") == ["a_x4.jpg", "a_x4.png"]


def test_what_is_wrong_with_names_is_one_sentence(tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")
    (tmp_path / "taken").write_text("a file")
    for inputs, out, message in (
        ([tmp_path / "gone.png"], "o", r"gone\.png: does not exist\.$"),
        ([str(tmp_path / "*.tif")], "o", r"\*\.tif: matches no file\.$"),
        ([source, picture(tmp_path / "b.png")], "a.png", r"a\.png: is a file: expected a folder"),
        ([tmp_path / ("n" * 300)], "o", r"n: cannot be opened: File name too long\.$"),
    ):
        with pytest.raises(EngineError, match=message):
            planned(inputs, tmp_path / out)
    with pytest.raises(ImageFileError, match="is the input itself"):
        check_targets(planned([source], source))
    with pytest.raises(ImageFileError, match="is no folder that you may write in"):
        check_targets(planned([source], tmp_path / "taken" / "x.png"))
    with pytest.raises(EngineError, match=r"x\.png: is not called as a file of format jpg"):
        planned([source], tmp_path / "x.png", Naming(form="jpg"))


def test_a_circle_of_links_is_walked_once(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "self.png").symlink_to("self.png")
    assert targets(planned([tmp_path / "in"], tmp_path / "out"), tmp_path / "out") == ["a_x4.png"]
    with pytest.raises(EngineError, match=r"self\.png: (does not exist|cannot be opened)"):
        planned([tmp_path / "in" / "self.png"], tmp_path / "out")
