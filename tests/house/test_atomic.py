"""atomic_write: the old file or the whole new one."""

import os
from pathlib import Path

import pytest

from sr_engine.atomic import _machine, atomic_write, check_target, remove_leftovers, temporary_name
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


def test_what_a_killed_process_leaves_is_removed_and_nothing_else(tmp_path: Path) -> None:
    own = temporary_name("net", ".ckpt")
    dead, alive, here = 2**22 + 1, os.getppid(), _machine()  # no system counts processes so far
    gone = [f".net.{here}-{dead:x}-0123abcd.tmp.ckpt", f".net.{here}-{dead:x}-0123abcd.tmp"]
    gone += [f".net.{here}-{os.getpid():x}-0123abcd.tmp"]  # of an earlier process, as in containers
    gone += [f".x y.z.ffffffff-{alive:x}-0123abcd.tmp.png"]
    stay = [own, f".net.{here}-{alive:x}-0123abcd.tmp.ckpt", ".net.tmp.ckpt", ".hidden", "net.01234567.tmp.ckpt"]
    stay += [f"net.{here}-{dead:x}-0123abcd.tmp.ckpt", f".net.{here}-{dead:x}-0123abcd.tmpx"]
    for name in (*gone, *stay):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / gone[0]).touch()
    assert len(remove_leftovers([tmp_path], others=False)) == 3
    assert (tmp_path / gone[3]).exists()
    (tmp_path / gone[0]).touch()
    removed = [*remove_leftovers([tmp_path, tmp_path / "missing"]), tmp_path / gone[1], tmp_path / gone[2]]
    assert sorted(path.name for path in removed) == sorted(gone)
    assert sorted(os.listdir(tmp_path)) == sorted([*stay, "inner"])  # noqa: PTH208
    assert os.listdir(tmp_path / "inner") == [gone[0]]  # noqa: PTH208


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="folders are synced where they can be opened")
def test_the_new_name_is_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bool]] = []
    opened = Path("/proc/self/fd")
    if not opened.is_dir():
        pytest.skip("looks at open files in /proc")
    note = lambda f: synced.append((str((opened / str(f)).readlink()), (tmp_path / "a.txt").exists()))  # noqa: E731
    monkeypatch.setattr(os, "fsync", note)
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert [(path == str(tmp_path), named) for path, named in synced] == [(False, False), (True, True)]
