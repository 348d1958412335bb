"""The page of a comparison: what is in it, from which files, and that nothing in it comes from elsewhere."""

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from sr_engine.data.images import read_image, to_float, write_image
from sr_engine.errors import EngineError, ImageFileError
from sr_engine.infer.compare import compare_files
from sr_engine.metrics import psnr_y, ssim_y
from sr_kernels import functional as K
from tests.infer.pages import Page


def noise(*shape: int, seed: int = 0, top: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape, np.uint8 if top == 256 else np.uint16)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack((y * 255 // height, x * 255 // width, (x + y) * 255 // (height + width)), -1).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: bytes) -> Path:
    Image.fromarray(pixels).save(path, None, **options)
    return path


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two pictures of one size, and the page to be."""
    first = save(tmp_path / "a.png", noise(20, 30, 3))
    return first, save(tmp_path / "b.png", noise(20, 30, 3, seed=1)), tmp_path / "page.html"


def test_two_pictures_of_one_size_are_shown_as_they_are_and_scored(two: tuple[Path, Path, Path]) -> None:
    comparison = compare_files(*two)
    a, b = (np.asarray(Image.open(path)) for path in two[:2])
    assert comparison.scores == (psnr_y(a, b, shave=0), ssim_y(a, b, shave=0))
    assert (comparison.labels, comparison.size, comparison.enlarged) == (("a.png", "b.png"), (30, 20), None)
    page = Page(two[2])
    assert [np.asarray(picture.convert("RGB")).tolist() for picture in page.pictures()] == [a.tolist(), b.tolist()]
    psnr, ssim = comparison.scores or (0, 0)
    assert page.texts["p"][-2:-1] == [f"Between the two, no border left out: PSNR-Y {psnr:.2f} dB, SSIM-Y {ssim:.4f}."]


def test_equal_pictures_and_pictures_too_small_for_scores(two: tuple[Path, Path, Path]) -> None:
    compare_files(two[0], two[0], two[2])
    assert "The two have the same luma: PSNR-Y is infinite, SSIM-Y 1." in Page(two[2]).texts["p"]
    for name in ("a.png", "b.png"):
        save(two[0].with_name(name), noise(10, 30))
    assert compare_files(*two, overwrite=True).scores is None
    assert "PSNR" not in two[2].read_text(encoding="utf-8")


def test_pictures_of_two_colour_spaces_have_no_scores_and_keep_their_profiles(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    a = save(tmp_path / "a.png", noise(16, 16, 3), icc_profile=srgb)
    b = save(tmp_path / "b.png", noise(16, 16, 3))
    for form in ("png", "webp", "jpeg", None):
        assert compare_files(a, b, tmp_path / "p.html", form=form, overwrite=True).scores is None
        assert [picture.info.get("icc_profile") for picture in Page(tmp_path / "p.html").pictures()] == [srgb, None]
    assert compare_files(a, a, tmp_path / "p.html", overwrite=True).scores is not None


@pytest.mark.parametrize("small_first", [True, False])
def test_the_smaller_one_is_enlarged_by_magic_kernel_sharp(tmp_path: Path, small_first: bool) -> None:
    small, large = save(tmp_path / "s.png", noise(6, 9, 3)), save(tmp_path / "l.png", noise(25, 37, 3))
    pair = (small, large) if small_first else (large, small)
    comparison = compare_files(*pair, tmp_path / "p.html")
    said = "s.png was enlarged 4.111 times, from 9x6 to 37x25 pixels, by Magic Kernel Sharp 2021."
    assert (comparison.enlarged, comparison.scores, comparison.size) == (said, None, (37, 25))
    page = Page(tmp_path / "p.html")
    assert said in page.texts["p"]
    assert page.texts["small"] == (["9x6", "37x25"] if small_first else ["37x25", "9x6"])
    shown = np.asarray(page.pictures()[0 if small_first else 1].convert("RGB"))
    values = torch.tensor(noise(6, 9, 3)).permute(2, 0, 1)[None].double() / 255
    expected = K.magic_resample(values, size=(25, 37), kernel="mks2021", impl="reference")[0].permute(1, 2, 0)
    assert np.abs(shown - (expected.clip(0, 1) * 255).numpy()).max() < 0.51


@pytest.mark.parametrize(
    ("small", "large", "fits"),
    [
        ((10, 15), (40, 60), True),
        ((75, 100), (303, 400), True),  # 75.75 rows, rounded down
        ((75, 100), (304, 400), False),  # 76 rows
        ((75, 100), (297, 400), True),  # 74.25, rounded up
        ((75, 100), (296, 400), False),
        ((100, 75), (400, 303), True),
        ((15, 10), (40, 60), False),  # turned
        ((10, 20), (11, 19), False),  # neither is the smaller
        ((20, 20), (20, 21), True),
        ((20, 20), (21, 20), True),
        ((20, 20), (22, 20), False),
        ((1, 1), (5, 5), True),
        ((40, 60), (80, 121), True),
    ],
)
def test_only_sizes_of_one_ratio_are_compared(
    tmp_path: Path, small: tuple[int, int], large: tuple[int, int], fits: bool
) -> None:
    a, b = save(tmp_path / "a.png", noise(*small)), save(tmp_path / "b.png", noise(*large))
    if fits:
        assert compare_files(a, b, tmp_path / "p.html").size == large[::-1]
        return
    for pair in ((a, b), (b, a)):
        with pytest.raises(EngineError) as caught:
            compare_files(*pair, tmp_path / "p.html")
        text = str(caught.value)
        assert f"a.png ({small[1]}x{small[0]})" in text
        assert f"b.png ({large[1]}x{large[0]})" in text
        assert "ratio" in text
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize("form", [None, "png", "webp", "jpeg"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_pictures_of_every_kind(tmp_path: Path, mode: str, form: str | None) -> None:
    pixels = smooth(16, 24)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    path = tmp_path / ("in.jpg" if mode == "CMYK" else "in.png")
    (deep if mode == "I;16" else Image.fromarray(pixels).convert(mode)).save(path)
    small = save(tmp_path / "small.png", smooth(4, 6))
    compare_files(path, small, tmp_path / "p.html", form=form)
    shown, enlarged = Page(tmp_path / "p.html").pictures()
    assert shown.size == enlarged.size == (24, 16)
    assert form is None or shown.format == form.upper()
    source = read_image(path)
    expected = (to_float(source.pixels) * 255).round()
    error = np.abs(np.asarray(shown.convert("RGB")).astype(int) - expected).mean()
    assert error <= (10 if form == "jpeg" else 0)
    compare_files(small, path, tmp_path / "p.html", form=form, overwrite=True)


def test_an_orientation_is_applied_and_a_place_is_not_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "SECRET PLACE"
    pixels = smooth(12, 20)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = save(tmp_path / "upright.png", np.rot90(pixels, -1))
    comparison = compare_files(tmp_path / "turned.png", upright, tmp_path / "p.html", form="png")
    assert comparison.size == (12, 20)
    assert comparison.scores is not None
    assert np.isinf(comparison.scores[0])
    assert not any(dict(picture.getexif()) for picture in Page(tmp_path / "p.html").pictures())


def test_deep_pictures_are_rounded_and_not_cut(tmp_path: Path) -> None:
    deep = noise(12, 12, 3, top=65536)
    write_image(tmp_path / "deep.png", deep)
    flat = save(tmp_path / "flat.png", np.rint(deep / 257).astype(np.uint8))
    scores = compare_files(tmp_path / "deep.png", flat, tmp_path / "p.html").scores
    assert scores is not None
    assert np.isinf(scores[0])


def test_transparency_stays_and_what_lies_under_it_counts_in_nothing(tmp_path: Path) -> None:
    pixels = np.concatenate((noise(16, 16, 3), np.full((16, 16, 1), 255, np.uint8)), 2)
    pixels[:8, :, 3] = 0
    other = pixels.copy()
    other[:8, :, :3] = 0
    a, b = save(tmp_path / "a.png", pixels), save(tmp_path / "b.png", other)
    scores = compare_files(a, b, tmp_path / "p.html").scores
    assert scores is not None
    assert np.isinf(scores[0])
    for picture in Page(tmp_path / "p.html").pictures():
        assert (np.asarray(picture.convert("RGBA"))[..., 3] == pixels[..., 3]).all()
    compare_files(a, b, tmp_path / "p.html", form="jpeg", overwrite=True)
    assert np.asarray(Page(tmp_path / "p.html").pictures()[0])[:7].min() > 230
    black = np.zeros((4, 4, 4), np.uint8)
    black[:, 2:] = 255
    large = save(tmp_path / "large.png", noise(16, 16, 3))
    compare_files(save(tmp_path / "edge.png", black), large, tmp_path / "p.html", overwrite=True)
    edge = np.asarray(Page(tmp_path / "p.html").pictures()[0])
    assert edge[edge[..., 3] > 0][:, :3].min() >= 254  # nothing dark bleeds in


def test_a_grey_profile_is_not_put_into_a_format_without_grey(tmp_path: Path) -> None:
    icc = _grey_profile(gamma=1.0)
    path = save(tmp_path / "g.png", np.full((12, 12), 64, np.uint8), icc_profile=icc)
    compare_files(path, path, tmp_path / "p.html")
    shown = Page(tmp_path / "p.html").pictures()[0]
    assert (shown.format, shown.mode, shown.info["icc_profile"]) == ("PNG", "L", icc)
    compare_files(path, path, tmp_path / "p.html", form="webp", overwrite=True)
    shown = Page(tmp_path / "p.html").pictures()[0]
    assert "icc_profile" not in shown.info
    linear = 64 / 255
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(shown).astype(float) - expected).max() <= 2


def test_the_smaller_lossless_format_is_taken_and_webp_has_its_limit(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.png", smooth(64, 64))
    compare_files(plain, plain, tmp_path / "p.html")
    sizes = {}
    for form in ("png", "webp"):
        compare_files(plain, plain, tmp_path / f"{form}.html", form=form)
        sizes[form] = (tmp_path / f"{form}.html").stat().st_size
    assert (tmp_path / "p.html").stat().st_size == min(sizes.values())
    wide = save(tmp_path / "wide.png", noise(1, 16384))
    compare_files(wide, wide, tmp_path / "w.html")
    assert [picture.format for picture in Page(tmp_path / "w.html").pictures()] == ["PNG", "PNG"]
    with pytest.raises(ImageFileError, match=r"wide.png: 16384 pixels of a side are too many for webp \(16383\)"):
        compare_files(wide, wide, tmp_path / "x.html", form="webp")


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "a&b \"c\" 'd'", "écrit 漢字 עברית", "{{left_uri}}", "</title>", "]]>", "a\nb\x07"],
)
def test_names_are_text_and_nothing_else(two: tuple[Path, Path, Path], name: str) -> None:
    compare_files(*two, labels=(name, "b"))
    page, shown = Page(two[2]), re.sub(r"[\n\x07]", "\ufffd", name)
    assert "".join(page.texts["title"]) == f"{shown} | b"
    assert "".join(page.texts["bdi"]) == f"{shown}b"
    assert [attributes["alt"] for tag, attributes in page.elements if tag == "img"] == [shown, "b"]
    assert [tag for tag, _ in page.elements].count("script") == 1


def test_files_of_one_name_are_told_apart_by_their_folders(two: tuple[Path, Path, Path]) -> None:
    other = two[0].parent / "other" / "a.png"
    other.parent.mkdir()
    other.write_bytes(two[1].read_bytes())
    assert compare_files(two[0], other, two[2]).labels == (str(two[0]), str(other))


def test_a_name_that_is_no_utf8_can_be_written(two: tuple[Path, Path, Path]) -> None:
    odd = two[0].with_name("a\udcff.png")
    try:
        odd.write_bytes(two[0].read_bytes())
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert compare_files(odd, two[1], two[2]).labels[0] == "a\ufffd.png"


def test_the_page_is_whole_and_takes_nothing_from_elsewhere(two: tuple[Path, Path, Path]) -> None:
    compare_files(*two)
    page = Page(two[2])
    assert page.source.startswith("<!doctype html>\n")
    assert page.open == []
    assert "{{" not in page.source.replace("`${", "")
    attributes = [(name, value or "") for _, found in page.elements for name, value in found.items()]
    assert not [name for name, _ in attributes if name.startswith("on") or name in ("style", "href", "srcset")]
    assert all(value.startswith("data:image/") for name, value in attributes if name == "src")
    assert not re.search(r"https?:|url\(|@import|\bfetch\b|import\(", page.source)
    ids = [value for name, value in attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    policy = next(found["content"] or "" for tag, found in page.elements if tag == "meta" and "http-equiv" in found)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    for kind in ("style", "script"):
        digest = hashlib.sha256("".join(page.texts[kind]).encode()).digest()
        assert rules[f"{kind}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"


def _grey_profile(gamma: float) -> bytes:
    """An ICC profile of greys with a gamma: header, and the tags that a decoder asks for (ICC.1:2001-04)."""

    def fixed(*values: float) -> bytes:
        return b"".join(round(value * 65536).to_bytes(4, "big") for value in values)

    white = fixed(0.9642, 1.0, 0.8249)
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big") + bytes(2)
    text = b"desc" + bytes(4) + (2).to_bytes(4, "big") + b"g\0" + bytes(78)
    tags = {b"desc": text, b"wtpt": b"XYZ " + bytes(4) + white, b"kTRC": curve, b"cprt": b"text" + bytes(4) + b"CC0\0"}
    table, body, offset = len(tags).to_bytes(4, "big"), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + (offset + len(body)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        body += content + bytes(-len(content) % 4)
    size = (128 + len(table) + len(body)).to_bytes(4, "big")
    head = size + bytes(4) + b"\x02\x10\0\0" + b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + table + body
