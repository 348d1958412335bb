"""`sr-engine upscale --manifest` as a user calls it, in one process."""

import json
from pathlib import Path

import pytest
from PIL import Image

from sr_engine.cli.main import main
from sr_kernels import dispatch

MKS = ("--model", "mks2021", "--scale", "2")


@pytest.fixture(autouse=True)
def untouched_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "auto")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (8, 6), (90, 90, 90)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("a.png\ngone.png\nb.jpg\n")
    return tmp_path / "list.txt"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["upscale", *(str(word) for word in words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def outcomes(out: Path) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return [(row["target"], row["status"]) for row in rows]


def test_results_and_their_manifest(manifest, tmp_path, capsys):
    out = tmp_path / "out"
    code, said, err = call(capsys, "--manifest", manifest, "-o", out, *MKS)
    assert code == 1
    assert said.startswith("2 done, 1 failed, 0 skipped of 3")
    assert "gone.png: does not exist." in err
    assert outcomes(out) == [("a_x2.png", "done"), ("gone_x2.png", "failed"), ("b_x2.png", "done")]
    with Image.open(out / "a_x2.png") as picture:
        assert picture.size == (16, 12)


def test_a_run_again_does_what_is_missing(manifest, tmp_path, capsys):
    out = tmp_path / "out"
    call(capsys, "--manifest", manifest, "-o", out, *MKS)
    kept = (out / "a_x2.png").stat().st_mtime_ns
    Image.new("RGB", (8, 6)).save(tmp_path / "gone.png")
    assert call(capsys, "--manifest", manifest, "-o", out, *MKS)[0] == 0
    assert [status for _, status in outcomes(out)] == ["done"] * 3
    assert (out / "a_x2.png").stat().st_mtime_ns == kept


def test_scale_suffix_and_format_are_heeded(manifest, tmp_path, capsys):
    out = tmp_path / "out"
    words = ("--model", "mks2021", "--scale", "2.5", "--suffix", "_big", "--format", "webp")
    call(capsys, "--manifest", manifest, "-o", out, *words)
    assert outcomes(out)[0] == ("a_big.webp", "done")
    with Image.open(out / "b_big.webp") as picture:
        assert (picture.size, picture.format) == ((20, 15), "WEBP")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png"], "--manifest and a.png: expected one of them"),
        (["--name", "{name}"], "--name does not go with --manifest"),
        (["--size", "9x9"], "--size does not go with --manifest"),
        (["--skip-existing"], "--skip-existing does not go with --manifest"),
        (["--format", "same"], "--format same does not go with --manifest"),
        (["--format", "heic"], "cannot write '.heic' files"),
        (["--format", "jpg", "--lossless"], "JPEG cannot be written without loss"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(manifest, tmp_path, capsys, words, message):
    model = () if "--size" in words else MKS
    code, _, err = call(capsys, "--manifest", manifest, "-o", tmp_path / "out", *model, *words)
    assert code == 2
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
