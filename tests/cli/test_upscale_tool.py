"""`sr-engine upscale` as a tool: pipes, folders begun and continued, names, sheets, what is said at the end."""

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from sr_engine.cli.main import main
from sr_kernels import dispatch

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MKS = ("--model", "mks2021", "--scale", "2")


@pytest.fixture(autouse=True)
def untouched_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "auto")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them in a subfolder, and one that is none."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.jpg", "deep/c d é.png")):
        Image.new("RGB", (8, 6), (40 * index, 90, 90)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_bytes(b"not a picture")
    return tmp_path / "in"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["upscale", *(str(word) for word in words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def results(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def test_a_folder_ends_with_a_summary_and_the_failures(folder, tmp_path, capsys):
    code, out, err = call(capsys, folder, "-o", tmp_path / "out", *MKS)
    assert code == 1
    assert results(tmp_path / "out") == ["a_x2.png", "b_x2.png", "deep/c d é_x2.png"]
    assert out.count("16x12") == 3
    assert "[1/4] " in out
    last = err.splitlines()[-2:]
    assert re.match(r"4 pictures in 0:\d\d: 3 upscaled \(", last[0])
    assert last[0].endswith("1 failed:")
    assert last[1].strip().startswith(str(folder / "bad.png"))


def test_a_folder_that_was_begun_is_continued(folder, tmp_path, capsys):
    call(capsys, folder, "-o", tmp_path / "out", *MKS)
    (tmp_path / "out" / "b_x2.png").unlink()
    kept = (tmp_path / "out" / "a_x2.png").stat().st_mtime_ns
    code, out, err = call(capsys, folder, "-o", tmp_path / "out", *MKS)
    assert code == 1
    assert out.count("16x12") == 1
    assert "2 were there already (--overwrite makes them anew)" in err
    assert (tmp_path / "out" / "a_x2.png").stat().st_mtime_ns == kept
    _, out, err = call(capsys, folder, "-o", tmp_path / "out", *MKS, "--overwrite")
    assert out.count("16x12") == 3
    assert "already" not in err


def test_a_single_result_is_not_replaced_unasked(folder, tmp_path, capsys):
    (tmp_path / "big.png").write_bytes(b"precious")
    code, _, err = call(capsys, folder / "a.png", "-o", tmp_path / "big.png", *MKS)
    assert code == 2
    assert "exists already: use --overwrite or --skip-existing" in err
    assert call(capsys, folder / "a.png", "-o", tmp_path / "big.png", *MKS, "--skip-existing")[0] == 0
    assert (tmp_path / "big.png").read_bytes() == b"precious"
    assert call(capsys, folder / "a.png", "-o", tmp_path / "big.png", *MKS, "--overwrite")[0] == 0
    assert Image.open(tmp_path / "big.png").size == (16, 12)


def test_names_formats_and_quality(folder, tmp_path, capsys):
    (folder / "bad.png").unlink()
    out = tmp_path / "out"
    assert call(capsys, folder, "-o", out, *MKS, "--suffix", "_big", "--format", "WebP", "--lossless")[0] == 0
    assert results(out) == ["a_big.webp", "b_big.webp", "deep/c d é_big.webp"]
    assert call(capsys, folder, "-o", out / "n", *MKS, "--name", "{model}/{name}@{scale}", "--format", "same")[0] == 0
    assert results(out / "n") == ["deep/mks2021/c d é@2.png", "mks2021/a@2.png", "mks2021/b@2.jpg"]
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    for quality in (10, 90):
        call(capsys, tmp_path / "noise.png", "-o", tmp_path / f"{quality}.jpg", *MKS, "--quality", quality)
    assert (tmp_path / "10.jpg").stat().st_size < 0.5 * (tmp_path / "90.jpg").stat().st_size


def test_metadata_is_stripped_on_demand(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif, icc_profile=PROFILE)
    call(capsys, tmp_path / "a.jpg", "-o", tmp_path / "kept.jpg", *MKS)
    call(capsys, tmp_path / "a.jpg", "-o", tmp_path / "bare.jpg", *MKS, "--strip")
    assert Image.open(tmp_path / "kept.jpg").getexif()[0x010F] == "Camera"
    with Image.open(tmp_path / "bare.jpg") as bare:
        assert not bare.getexif()
        assert bare.info["icc_profile"] == PROFILE


class _Kept(io.BytesIO):
    """Can be read after the stream around it is closed."""

    def close(self) -> None:
        self.flush()


class _Pipe(io.TextIOWrapper):
    """Standard input or output that is no terminal."""


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> io.BytesIO:
    """Standard input that gives `content`; returned is what goes to standard output."""
    out = _Kept()
    monkeypatch.setattr(sys, "stdin", _Pipe(io.BytesIO(content)))
    monkeypatch.setattr(sys, "stdout", _Pipe(out))
    return out


@pytest.mark.parametrize("form", ["png", "jpg", "webp"])
def test_a_pipe(tmp_path, capsys, monkeypatch, form):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    picture = io.BytesIO()
    Image.new("RGB", (8, 6), (90, 90, 90)).save(picture, "JPEG")
    with monkeypatch.context() as patch:
        out = piped(patch, picture.getvalue())
        assert main(["upscale", "-", "-o", "-", *MKS, "--format", form]) == 0
    assert "stdin -> stdout  16x12" in capsys.readouterr().err
    with Image.open(io.BytesIO(out.getvalue())) as result:
        assert (result.size, result.format) == ((16, 12), {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[form])
    assert not list(tmp_path.iterdir())


def test_a_pipe_with_no_picture_in_it_gives_nothing(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        out = piped(patch, b"no picture")
        assert main(["upscale", "-", "-o", "-", *MKS]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("sr-engine: error: stdin: is not a picture")
    assert out.getvalue() == b""


def test_two_pictures_do_not_go_to_standard_output(folder, capsys):
    code, _, err = call(capsys, folder, "-o", "-", *MKS)
    assert code == 2
    assert "standard output" in err
    assert call(capsys, "-", "-", "-o", "x", *MKS)[0] == 2


def test_a_sheet_compares_the_first_pictures(folder, tmp_path, capsys):
    code, _, err = call(capsys, folder, "-o", tmp_path / "out", *MKS, "--compare", tmp_path / "sheet.png")
    assert code == 1
    assert "3 pictures compared" in err
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 480
        assert sheet.height > 3 * 480
    code, _, err = call(
        capsys, folder / "a.png", "-o", tmp_path / "one.png", *MKS, "--compare", tmp_path / "no" / "s.jpg"
    )
    assert code == 2
    assert "expected a name that ends in .png" in err
    assert not (tmp_path / "one.png").exists()


def test_a_defect_in_one_picture_costs_only_that_one(folder, tmp_path, capsys, monkeypatch):
    from sr_engine.infer import files

    read = files.read_image
    monkeypatch.setattr(files, "read_image", lambda path: read(path) if path.name != "b.jpg" else {}["nothing"])
    code, out, err = call(capsys, folder, "-o", tmp_path / "out", *MKS)
    assert code == 1
    assert out.count("16x12") == 2
    assert "b.jpg: a defect of the program (KeyError: 'nothing')" in err


def test_a_run_that_was_killed_leaves_no_half_file_and_is_completed(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    for index in range(40):
        Image.fromarray(np.roll(noise, index, 0)).save(tmp_path / "in" / f"{index:02}.png")
    out = tmp_path / "out"
    words = ["upscale", tmp_path / "in", "-o", out, "--model", "mks2021", "--scale", "4"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, "-m", "sr_engine", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while len(list(out.glob("*_x4.png"))) < 5 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        process.kill()
    there = list(out.glob("*_x4.png"))
    assert 5 <= len(there) < 40, "killed in the middle"
    for path in there:
        Image.open(path).load()
    assert call(capsys, *words[1:])[0] == 0
    assert results(out) == [f"{index:02}_x4.png" for index in range(40)], "and what the killed run left is gone"
