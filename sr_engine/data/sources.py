"""The data sets a configuration can name; each lists pictures and says how samples are drawn from them.

A plugin's data set is a class with the fields of `Common` and a method `pictures(role=..., scale=...)`.
"""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import Field

from sr_engine.config import registry
from sr_engine.data.images import SUFFIXES
from sr_engine.data.photo import Photo
from sr_engine.data.pictures import Picture
from sr_engine.data.realworld import RealWorld
from sr_engine.errors import DataError

log = logging.getLogger(__name__)

Role = Literal["train", "val"]
Share = Annotated[float, Field(ge=0, le=1)]
Degradation = Literal["bicubic", "photo", "real_world"] | RealWorld | Photo


class Source(Protocol):
    """What `build_dataset` needs of a data set."""

    @property
    def degradation(self) -> Degradation: ...
    @property
    def hard_sampling(self) -> float: ...
    @property
    def augment(self) -> bool: ...
    @property
    def on_bad_file(self) -> Literal["error", "skip"]: ...
    @property
    def workers(self) -> int | None: ...
    @property
    def cache_mb(self) -> int: ...
    @property
    def in_memory(self) -> bool: ...
    def pictures(self, *, role: Role, scale: int) -> Sequence[Picture]:
        """All pictures for this role.

        Raises:
            DataError: the data set as a whole cannot be used.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Common:
    """Keys that every data set has.

    Args:
        hard_sampling: share of the training patches drawn with a chance that grows with their detail,
            (mean |Laplacian|)^0.5; the others are drawn uniformly.
        augment: whether training patches are flipped and turned at random.
        on_bad_file: pictures that cannot be used are all listed and then `error` refuses or `skip` leaves them out.
        workers: processes that prepare training patches; 0 is a thread of the training process, null chooses.
        cache_mb: memory for decoded pictures, shared by the workers.
        in_memory: whether the training pictures and their reductions are kept as bytes on the training device (6 bytes
            a pixel; with ready-made LR those of both pictures) and patches are cut there, without workers: the same
            patches. Measured on a CPU of two cores: a batch takes 3 ms instead of 21, a whole training step the same
            time (197 ms). For bicubic degradation and ready-made pairs, of sets that fit into `cache_mb`.
    """

    hard_sampling: Share = 0.75
    augment: bool = True
    on_bad_file: Literal["error", "skip"] = "error"
    workers: Annotated[int, Field(ge=0)] | None = None
    cache_mb: Annotated[int, Field(ge=0)] = 1024
    in_memory: bool = False


@registry.register("dataset", "folder")
@dataclass(frozen=True, kw_only=True)
class Folder(Common):
    """High-resolution pictures in folders, searched with their subfolders.

    Args:
        path: a folder, several, or a mapping of folders to weights: how often each pixel there is drawn, relatively.
        degradation: how the low-resolution picture is made: `bicubic`; `photo`, a little blur, noise and JPEG, as
            pictures that people have; `real_world`, the strong one of Real-ESRGAN; or a mapping of the `type` photo or
            real_world with its arguments. For validation it is drawn by a picture's name: the same every time.
        holdout: share of the pictures that a training set leaves to the validation set (the same entry under `val`).
            The choice depends on a picture's path within its folder alone: adding pictures moves no other.
        group: regular expression found in such a path; what it matches names the photograph a file was cut from, and
            files of one photograph stay together in a `holdout`.
    """

    path: str | list[str] | dict[str, float]
    degradation: Degradation = "bicubic"
    holdout: Share = 0.0
    group: str | None = None

    def pictures(self, *, role: Role, scale: int) -> list[Picture]:
        """All pictures for this role; see `Source`."""
        del scale
        folders = self.path if isinstance(self.path, dict) else dict.fromkeys(_as_list(self.path), 1.0)
        found: list[tuple[str, Picture]] = []
        for folder, weight in folders.items():
            root = Path(folder).expanduser()
            for file in list_pictures(root):
                relative = file.relative_to(root)
                found.append((relative.as_posix(), Picture(relative.with_suffix("").as_posix(), file, weight=weight)))
        if self.holdout > 0:
            held = _held_out([self._photograph(path) for path, _ in found], self.holdout)
            wanted = role == "val"
            found = [entry for entry in found if (self._photograph(entry[0]) in held) == wanted]
            if not found:
                raise DataError(f"holdout {self.holdout} leaves no picture of {self.path} to train on: lower it.")
        return _unique_names([picture for _, picture in found])

    def _photograph(self, path: str) -> str:
        match = re.search(self.group, path) if self.group else None
        return match.group() if match else path


@registry.register("dataset", "paired")
@dataclass(frozen=True, kw_only=True)
class Paired(Common):
    """High-resolution pictures with ready-made low-resolution partners in a second folder.

    Args:
        hr: folder of the originals, searched with its subfolders.
        lr: folder of the partners, with the same subfolders.
        filename_template: name of a partner without suffix, from `{name}` (of the original) and `{scale}`; DIV2K is
            `{name}x{scale}`.
    """

    hr: str
    lr: str
    filename_template: str = "{name}"
    degradation: ClassVar[Degradation] = "bicubic"

    def pictures(self, *, role: Role, scale: int) -> list[Picture]:
        """All pairs; see `Source`."""
        del role
        hr_root, lr_root = Path(self.hr).expanduser(), Path(self.lr).expanduser()
        partners = {file.relative_to(lr_root).with_suffix(""): file for file in list_pictures(lr_root)}
        pairs, lonely = [], []
        for file in list_pictures(hr_root):
            relative = file.relative_to(hr_root).with_suffix("")
            try:
                wanted = relative.with_name(_filled(self.filename_template, name=relative.name, scale=str(scale)))
            except ValueError as error:
                raise DataError(f"filename_template '{self.filename_template}' gives no name: {error}.") from None
            if wanted in partners:
                pairs.append(Picture(relative.as_posix(), file, partners[wanted]))
            else:
                lonely.append(f"{file} (expected {lr_root / wanted}.*)")
        listing = "\n  ".join([f"{len(lonely)} pictures have no partner in {lr_root}:", *lonely])
        if lonely and (self.on_bad_file == "error" or not pairs):
            raise DataError(listing)
        if lonely:
            log.warning("skipping: %s", listing)
        return _unique_names(pairs)


@registry.register("dataset", "list")
@dataclass(frozen=True, kw_only=True)
class ListFile(Common):
    """Pictures named in a text file, one a line: `original [low-resolution partner]`, separated by a tab or spaces.

    Empty lines and lines that begin with # are ignored, and so is a size in parentheses after the name, as in
    BasicSR's meta_info files.

    Args:
        file: the text file.
        root: folder that the names start from; null is the folder of `file`.
        degradation: for lines without a partner: `bicubic`, `photo`, `real_world`, or a mapping with its arguments,
            as for `folder`.
    """

    file: str
    root: str | None = None
    degradation: Degradation = "bicubic"

    def pictures(self, *, role: Role, scale: int) -> list[Picture]:
        """All pictures of the file; see `Source`."""
        del role, scale
        path = Path(self.file).expanduser()
        root = path.parent if self.root is None else Path(self.root).expanduser()
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a list of pictures: {error}.") from None
        pictures = []
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            names = line.strip().split("\t") if "\t" in line else line.split()
            names = names[:1] if len(names) > 1 and names[1].startswith("(") else names
            if len(names) > 2:
                raise DataError(
                    f"{path}:{number}: expected one or two file names, got {len(names)}: "
                    "separate names that contain spaces by a tab."
                )
            low = root / names[1] if len(names) == 2 else None
            pictures.append(Picture(Path(names[0]).with_suffix("").as_posix(), root / names[0], low))
        if not pictures:
            raise DataError(f"{path}: names no picture.")
        return _unique_names(pictures)


def list_pictures(root: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """All picture files below a folder, sorted by path; hidden files and folders are left out.

    Linked files are among them; linked folders are not entered, so links in a circle do no harm.

    Args:
        suffixes: of the files that count, in small letters.

    Raises:
        DataError: the folder does not exist or has no pictures.
    """
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise DataError(f"data folder {root} {state}: give the path of a folder of pictures.")
    files = [
        file
        for file in root.rglob("*")
        if file.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and file.is_file()
    ]
    if not files:
        raise DataError(f"data folder {root} has no pictures: expected files ending in {', '.join(sorted(suffixes))}.")
    return sorted(files)


def _filled(template: str, **values: str) -> str:
    """A template with its fields replaced, and nothing else of it: str.format would look into what it is given."""
    parts = re.split(r"\{(\w+)\}", template)
    if unknown := [field for field in parts[1::2] if field not in values] + re.findall("[{}]", "".join(parts[::2])):
        raise DataError(
            f"filename_template '{template}' cannot be filled in ({unknown[0]!r}): use {{name}} and {{scale}} only."
        )
    return "".join(values[part] if k % 2 else part for k, part in enumerate(parts))


def _as_list(path: str | list[str]) -> list[str]:
    return [path] if isinstance(path, str) else path


def _held_out(photographs: Iterable[str], share: float) -> set[str]:
    """A stable pseudo-random `share` of the photographs, at least one."""
    rank = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64 for name in photographs}
    held = {name for name, value in rank.items() if value < share}
    return held or {min(rank, key=rank.__getitem__)}


def _unique_names(pictures: Sequence[Picture]) -> list[Picture]:
    """Pictures whose names clash are called by their path instead."""
    count = Counter(picture.name for picture in pictures)
    return [
        picture
        if count[picture.name] == 1
        else Picture(str(picture.hr), picture.hr, picture.lr, picture.box, picture.weight)
        for picture in pictures
    ]
