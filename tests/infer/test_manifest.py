"""Lists of pictures: every form read, every bad line told with its number, at the memory of a list of numbers."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from sr_engine.errors import DataError
from sr_engine.infer.manifest import Entry, open_manifest, plain_name

NAME = plain_name("_x4")


def entries(path: Path, text: str | bytes) -> list[Entry]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(open_manifest(path, path.parent / "out", NAME))


def test_text_is_one_path_a_line_with_blanks_and_commas_as_they_are(tmp_path):
    found = entries(tmp_path / "list.txt", "\ufeffa, b.png\r\n\n  \n deep/写真.jpg\n../up/c.png\n/else/where/d.tif")
    assert found == [
        (1, "a, b.png", "a, b_x4.png"),
        (4, " deep/写真.jpg", " deep/写真_x4.png"),
        (5, "../up/c.png", f"{(tmp_path.parent / 'up').relative_to('/')}/c_x4.png"),
        (6, "/else/where/d.tif", "else/where/d_x4.png"),
    ]


def test_csv_has_a_header_and_may_have_targets_and_other_columns(tmp_path):
    text = 'licence, target,source\ncc0,"x,1.jpg",a.png\ncc0,,"b ""2"".png"\n'
    expected = [(2, "a.png", "x,1.jpg"), (3, 'b "2".png', 'b "2"_x4.png')]
    assert entries(tmp_path / "list.csv", text) == expected
    assert entries(tmp_path / "list", text) == expected, "told by its first line"


def test_jsonl_may_have_targets_and_is_told_by_its_first_line(tmp_path):
    lines = [{"source": "a.png", "target": "deep/../x.webp"}, {"source": "b.png", "status": "failed", "error": "why"}]
    text = "".join(json.dumps(line) + "\n\n" for line in lines)
    expected = [(1, "a.png", "x.webp"), (3, "b.png", "b_x4.png")]
    assert entries(tmp_path / "list.jsonl", text) == expected
    assert entries(tmp_path / "list.manifest", text) == expected


def test_paths_start_at_the_folders_of_the_manifest_and_of_the_results(tmp_path):
    (tmp_path / "list.txt").write_text("deep/a.png\n/b.png\n")
    manifest = open_manifest(tmp_path / "list.txt", tmp_path / "out", NAME)
    assert manifest.count == 2
    assert [manifest.source(entry) for entry in manifest] == [tmp_path / "deep/a.png", Path("/b.png")]
    assert [manifest.target(entry) for entry in manifest] == [
        tmp_path / "out" / n for n in ("deep/a_x4.png", "b_x4.png")
    ]


def test_bytes_that_are_no_utf8_name_the_file_that_has_them(tmp_path):
    (found,) = entries(tmp_path / "list.txt", b"caf\xe9.png\n")
    assert os.fsencode(found.source) == b"caf\xe9.png"


def test_all_bad_lines_are_told_with_their_numbers(tmp_path):
    lines = [
        '{"source": "good.png"}',
        "no json",
        '{"target": "a.png"}',
        '{"source": "a.png", "target": "../outside.png"}',
        '{"source": "a.png", "target": "a.xyz"}',
        '{"source": "s3://bucket/a.png"}',
        '{"source": "a\\u0000.png"}',
        '{"source": "out/b.png", "target": "b.png"}',
        '{"source": "good.jpg"}',
        '{"source": "c.png", "target": 3}',
        "[" * 100_000,
    ]
    with pytest.raises(DataError) as caught:
        entries(tmp_path / "list.jsonl", "\n".join(lines))
    expected = [
        "10 lines cannot be used",
        "line 2: is no JSON",
        'line 3: has no text "source"',
        "line 4: target '../outside.png' is outside of the folder of results",
        "line 5: a.xyz: cannot write '.xyz' files",
        "line 6: 's3://bucket/a.png' is an address",
        "line 7: has a zero byte",
        "line 8: out/b.png would be replaced by its own result",
        "line 9: good.jpg would become good_x4.png as line 1 does",
        'line 10: "target" is 3, expected a text',
        "line 11: is no JSON",
    ]
    for said, line in zip(expected, str(caught.value).splitlines(), strict=True):
        assert said in line


def test_many_bad_lines_are_counted_and_twenty_shown(tmp_path):
    with pytest.raises(DataError, match=r"(?s)1000 lines.*line 21: .*and 980 more\.$") as caught:
        entries(tmp_path / "list.csv", "source\n" + ",x\n" * 1000)
    assert len(str(caught.value).splitlines()) == 22


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "a.png\nb.png\n", r"no column 'source' in its first line, only a\.png"),
        ("list.csv", 'source\na.png\n"b.png', r"line 3: is no CSV"),
        ("list.txt", "\n\n", r"names no pictures"),
        ("list.txt", "/\n", r"line 1: '/' is no path of a file"),
        ("gone.txt", None, r"gone\.txt: cannot be read as a manifest: No such file"),
        ("", None, r"cannot be read as a manifest: Is a directory"),
    ],
)
def test_what_is_no_manifest_is_one_sentence(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        open_manifest(tmp_path / name, tmp_path / "out", NAME)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_changes_later_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("a.png\n")
    manifest = open_manifest(tmp_path / "list.txt", tmp_path / "out", NAME)
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    with pytest.raises(DataError, match="was changed after the start"):
        list(manifest)


def test_lines_are_not_kept(tmp_path):
    count = 20_000
    (tmp_path / "list.txt").write_text("".join(f"folder/picture_{i:06}.png\n" for i in range(count)))
    tracemalloc.start()
    manifest = open_manifest(tmp_path / "list.txt", tmp_path / "out", NAME)
    assert sum(1 for _ in manifest) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * count, f"{peak / count:.0f} bytes a line"


@pytest.mark.parametrize(
    "content", ["a.png\n".encode("utf-16"), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"], ids=["utf-16", "png"]
)
def test_what_is_no_text_is_one_error_instead_of_one_for_each_line(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"list\.txt: is no UTF-8 text: expected a path a line"):
        open_manifest(tmp_path / "list.txt", tmp_path / "out", plain_name("_x4"))
