"""atomic_write: the old file or the whole new one."""

import os
from pathlib import Path

import pytest

from sr_engine.atomic import atomic_write, check_target
from sr_engine.errors import EngineError


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")

    def fail_halfway() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail_halfway()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.txt"]  # noqa: PTH208 (hidden files too)


def test_success_replaces_and_keeps_the_suffix_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "picture ü.png"
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".png"
        assert not path.exists()
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    for number, write in enumerate((Path.touch, private)):
        with atomic_write(tmp_path / f"atomic{number}") as temporary:
            write(temporary)
        assert (tmp_path / f"atomic{number}").stat().st_mode == (tmp_path / "plain").stat().st_mode


def private(path: Path) -> None:
    """What safetensors does: a file of its own, readable by the user alone, takes the place of `path`."""
    own = path.with_name("own")
    own.touch(0o600)
    own.replace(path)


def test_a_possible_target_is_left_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "new" / "net.ONNX"
    assert check_target(target, (".onnx",)) == target
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.txt", "ends in .onnx or .pt2"),
        ("folder.onnx", "is a folder"),
        ("file/net.onnx", "nothing can be written there"),
        ("/proc/net.onnx", "nothing can be written there"),
    ],
)
def test_an_impossible_target_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=message):
        check_target(tmp_path / name, (".onnx", ".pt2"))
