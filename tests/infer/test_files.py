"""Picture files of every kind through an upscaler, and where their results go."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from sr_engine.data.images import read_image
from sr_engine.errors import EngineError, ImageFileError
from sr_engine.infer.files import Listener, upscale_file, upscale_paths
from sr_engine.infer.jobs import Naming
from sr_engine.infer.request import Request
from sr_engine.infer.upscaler import Upscaler

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def up() -> Upscaler:
    return Upscaler("bicubic", scale=4)


def gradient(height=9, width=7) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack((20 * y, 30 * x, 10 * (x + y)), -1).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "I;16"])
def test_png_of_every_mode_comes_back_four_times_as_large(up, tmp_path, mode):
    source = tmp_path / "in.png"
    deep = Image.fromarray(gradient()[..., 0].astype(np.uint16) * 257)
    (deep if mode == "I;16" else Image.fromarray(gradient()).convert(mode)).save(source)
    upscale_file(up, source, tmp_path / "out.png")
    before, after = read_image(source), read_image(tmp_path / "out.png")
    assert after.pixels.shape == (36, 28, before.pixels.shape[2])
    assert after.pixels.dtype == before.pixels.dtype
    assert (after.alpha is None) == (before.alpha is None)
    # The mean survives an upsampler whose weights sum to one, up to the borders.
    depth = np.iinfo(after.pixels.dtype).max
    assert abs(after.pixels.mean() - before.pixels.mean()) < 0.02 * depth


def test_cmyk_jpeg_becomes_rgb(up, tmp_path):
    Image.fromarray(gradient(16, 16)).convert("CMYK").save(tmp_path / "in.jpg", quality=95)
    outcome = upscale_file(up, tmp_path / "in.jpg", tmp_path / "out.png")
    assert read_image(tmp_path / "out.png").pixels.shape == (64, 64, 3)
    assert outcome.size == (64, 64)
    assert "CMYK" in outcome.notes[0]


def test_sixteen_bits_are_more_than_eight(up, tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "in.png")
    upscale_file(up, tmp_path / "in.png", tmp_path / "out.png")
    assert len(np.unique(read_image(tmp_path / "out.png").pixels)) > 5000


def test_transparency_is_upscaled_and_colour_under_it_does_not_bleed(up, tmp_path):
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[4:12, 4:12] = 255
    Image.fromarray(picture).save(tmp_path / "in.png")
    upscale_file(up, tmp_path / "in.png", tmp_path / "out.png")
    out = np.asarray(Image.open(tmp_path / "out.png"))
    assert out.shape == (64, 64, 4)
    assert out[0, 0, 3] == 0
    assert out[32, 32, 3] == 255
    assert out[out[..., 3] > 0][:, :3].min() >= 254


def test_orientation_is_applied_once_and_profile_and_exif_are_kept(up, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    Image.fromarray(gradient(8, 12)).save(tmp_path / "in.jpg", exif=exif, icc_profile=PROFILE)
    upscale_file(up, tmp_path / "in.jpg", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as out:
        assert out.size == (32, 48), "a picture 12 wide and 8 high, lying on its side"
        assert out.getexif().get(0x0112, 1) == 1
        assert out.getexif()[0x010F] == "Camera"
        assert out.info["icc_profile"] == PROFILE


def test_one_pixel_and_a_unicode_name(up, tmp_path):
    source = tmp_path / "写真 é.png"
    Image.fromarray(np.full((1, 1, 3), 90, np.uint8)).save(source)
    upscale_paths(up, [source], tmp_path / "out")
    result = read_image(tmp_path / "out" / "写真 é_x4.png")
    assert (result.pixels == 90).all()
    assert result.pixels.shape == (4, 4, 3)


def test_a_folder_keeps_its_structure_and_one_bad_picture_does_not_stop_it(up, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    Image.fromarray(gradient()).save(tmp_path / "in" / "a.png")
    Image.fromarray(gradient()).save(tmp_path / "in" / "deep" / "c.jpg")
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").write_text("no picture either")
    heard = []

    class Ear(Listener):
        def planned(self, jobs):
            heard.append(len(jobs))

        def started(self, job):
            heard.append(job.source.name)

        def tile(self, done, total):
            heard.append((done, total))

        def finished(self, outcome):
            heard.append(outcome)

    outcomes = upscale_paths(up, [tmp_path / "in"], tmp_path / "out", listener=Ear())
    assert heard == [3, "a.png", (1, 1), outcomes[0], "b.png", outcomes[1], "c.jpg", (1, 1), outcomes[2]]
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")) == [
        "a_x4.png",
        "deep/c_x4.png",
    ]
    assert [o.size for o in outcomes] == [(28, 36), None, (28, 36)]
    assert [o.error is None for o in outcomes] == [True, False, True]
    assert "b.png" in str(outcomes[1].error)


def test_existing_results_are_overwritten_only_on_demand(up, tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "in.png")
    target = tmp_path / "out.png"
    target.write_bytes(b"precious")
    with pytest.raises(ImageFileError, match=r"out\.png: exists already: use --overwrite"):
        upscale_paths(up, [tmp_path / "in.png"], target)
    assert target.read_bytes() == b"precious"
    upscale_paths(up, [tmp_path / "in.png"], target, existing="overwrite")
    assert read_image(target).pixels.shape == (36, 28, 3)


def test_an_input_is_never_its_own_output(up, tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "in.png")
    with pytest.raises(ImageFileError, match="is the input itself"):
        upscale_paths(up, [tmp_path / "in.png"], tmp_path / "in.png", existing="overwrite")


def test_two_inputs_of_one_name_are_refused_before_any_work(up, tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    Image.fromarray(gradient()).save(tmp_path / "a.jpg")
    with pytest.raises(EngineError, match=r"would both become .*a_x4\.png: rename one"):
        upscale_paths(up, [tmp_path / "a.png", tmp_path / "a.jpg"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "name", "out", "message"),
    [
        (None, "gone.png", "out.png", r"gone\.png: does not exist"),
        (b"no picture", "in.png", "out.png", r"in\.png: is not a picture"),
        (b"", "empty", "out", r"empty has no pictures"),
        ("png", "in.png", "out.xyz", r"out\.xyz: cannot write '\.xyz' files"),
        ("png", "in.png", "blocked/out.png", r"blocked.out\.png: cannot be written"),
    ],
)
def test_bad_input_and_unwritable_targets_are_one_sentence(up, tmp_path, content, name, out, message):
    (tmp_path / "blocked").write_text("a file where a folder should be")
    source = tmp_path / name
    if content == b"":
        source.mkdir()
    elif content == "png":
        Image.fromarray(gradient()).save(source)
    elif content is not None:
        source.write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(EngineError, match=message) as caught:
        upscale_paths(up, [source], tmp_path / out)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"


def test_a_format_that_cannot_be_written_is_found_before_the_work(up, tmp_path, monkeypatch):
    Image.fromarray(gradient()).save(tmp_path / "in.png")
    monkeypatch.setattr(type(up), "rows", lambda *_, **__: pytest.fail("the picture was upscaled first"))
    with pytest.raises(ImageFileError, match=r"cannot write '\.xyz' files"):
        upscale_paths(up, [tmp_path / "in.png"], tmp_path / "out.xyz")


def test_a_truncated_picture_is_named(up, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageFileError, match=r"half\.png: is damaged or truncated"):
        upscale_paths(up, [tmp_path / "half.png"], tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("out.webp", "17000x2!", r"out\.webp: .*16383"),
        ("out.jpg", "2x66000!", r"out\.jpg: .*65500"),
        ("out.bmp", "900000x900000!", r"out\.bmp: .*4 GiB"),
        ("out.png", "9000000x9000000!", r"out\.png: 9000000x9000000 pixels need about \d+\.\d GiB of disk"),
    ],
)
def test_what_does_not_fit_is_said_before_the_first_tile(up, tmp_path, monkeypatch, name, size, message):
    Image.fromarray(gradient()).save(tmp_path / "in.png")
    monkeypatch.setattr(type(up), "rows", lambda *_, **__: pytest.fail("the picture was upscaled first"))
    with pytest.raises(ImageFileError, match=message):
        upscale_file(up, tmp_path / "in.png", tmp_path / name, request=Request(geometry=size))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png"]


def test_a_picture_that_memory_cannot_hold_whole_is_refused_for_formats_that_need_that(up, tmp_path, monkeypatch):
    Image.fromarray(gradient()).save(tmp_path / "in.png")
    monkeypatch.setattr("sr_engine.infer.request.free_memory", lambda _: 1000)
    with pytest.raises(ImageFileError, match=r"out\.webp: 28x36 pixels as WEBP need .* PNG, TIFF or JPEG"):
        upscale_file(up, tmp_path / "in.png", tmp_path / "out.webp")


def test_resolution_grows_with_the_picture(up, tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "in.jpg", dpi=(72, 96))
    upscale_file(up, tmp_path / "in.jpg", tmp_path / "out.jpg")
    upscale_file(up, tmp_path / "in.jpg", tmp_path / "other.jpg", request=Request(scale=2.0))
    assert Image.open(tmp_path / "out.jpg").info["dpi"] == (288, 384)
    assert Image.open(tmp_path / "other.jpg").info["dpi"] == (144, 192)


@pytest.mark.parametrize("form", ["gif", "webp", "png"])
def test_an_animation_goes_frame_by_frame(up, tmp_path, form):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(
        tmp_path / f"in.{form}", save_all=True, append_images=frames[1:], duration=[40, 80, 120], loop=3, lossless=True
    )
    request = Request(lossless=form != "gif")
    outcome = upscale_file(up, tmp_path / f"in.{form}", tmp_path / f"out.{form}", request=request)
    assert outcome.size == (24, 16)
    with Image.open(tmp_path / f"out.{form}") as out:
        assert (getattr(out, "n_frames", 1), out.size) == (3, (24, 16))
        for index, (colour, duration) in enumerate((((255, 0, 0), 40), ((0, 255, 0), 80), ((0, 0, 255), 120))):
            out.seek(index)
            out.load()
            assert out.info["duration"] == duration
            assert out.convert("RGB").getpixel((12, 8)) == colour
        assert out.info["loop"] == 3
    with pytest.raises(ImageFileError, match=r"is an animation of 3 frames, which JPEG cannot hold"):
        upscale_file(up, tmp_path / f"in.{form}", tmp_path / "out.jpg")


def test_what_a_format_cannot_hold_is_told(up, tmp_path):
    Image.fromarray(gradient()).convert("RGBA").save(tmp_path / "in.png")
    assert upscale_file(up, tmp_path / "in.png", tmp_path / "out.png").notes == ()
    assert "laid over white" in upscale_file(up, tmp_path / "in.png", tmp_path / "out.jpg").notes[0]


def test_an_encoding_that_cannot_be_is_refused_before_any_picture(up, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        Image.fromarray(gradient()).save(tmp_path / name)
    monkeypatch.setattr(type(up), "rows", lambda *_, **__: pytest.fail("a picture was upscaled first"))
    for request, message in ((Request(lossless=True), "without loss"), (Request(quality=101), "quality is 101")):
        with pytest.raises(ImageFileError, match=message):
            upscale_paths(up, [tmp_path], tmp_path / "out", request=request, naming=Naming(form="jpg"))


def test_a_result_in_bands_is_the_picture_that_the_upscaler_gives(up, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    tiled = Upscaler("bicubic", scale=4, tile=32)
    upscale_file(tiled, tmp_path / "in.png", tmp_path / "out.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), tiled(pixels))
    upscale_file(tiled, tmp_path / "in.png", tmp_path / "half.tif", request=Request(scale=2.5))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "half.tif")), tiled(pixels, size=(225, 175)))
