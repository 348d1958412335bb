"""Pictures, patches and batches."""

from dataclasses import dataclass
from typing import Literal

from sr_engine.config.yaml12 import Value
from sr_engine.convert.rules import Is, No, Same, Table, To, apply_table
from sr_engine.convert.translation import ConversionError, Translation
from sr_engine.convert.values import NoEqualError, flag, plain, whole

Kind = Literal["paired", "on the fly"]
TRAIN = "datasets.train"
_VIDEO = "only single pictures are trained on here"


@dataclass(frozen=True)
class Keys:
    """How a framework spells the loading of data; a path that it doesn't have is ""."""

    kinds: dict[str, Kind]
    workers: str
    batch: str
    accumulate: str
    meta: str


LOADING: Table = {
    f"{TRAIN}.name": No("data sets have no label"),
    f"{TRAIN}.io_backend.type": Is(("disk",), "pictures are read from files", "pictures are read from files only"),
    f"{TRAIN}.io_backend": No("pictures are read from files only"),
    f"{TRAIN}.use_shuffle": Is((True,), "training patches are always drawn at random", "patches are always random"),
    f"{TRAIN}.dataset_enlarge_ratio": Same("no epochs: patches are drawn without end, however few pictures"),
    f"{TRAIN}.prefetch_mode": Same("batches are always loaded ahead"),
    f"{TRAIN}.pin_memory": Same("chosen by itself"),
    f"{TRAIN}.persistent_workers": Same("chosen by itself"),
    f"{TRAIN}.num_prefetch_queue": Same("batches are always loaded ahead"),
    f"{TRAIN}.prefetch_factor": Same("batches are always loaded ahead"),
    f"{TRAIN}.phase": Same("said by its place"),
    f"{TRAIN}.mean": Is((None,), "values stay in 0..1", "values stay in 0..1"),
    f"{TRAIN}.std": Is((None,), "values stay in 0..1", "values stay in 0..1"),
    f"{TRAIN}.color": Is((None,), "networks see RGB", "networks see RGB"),
    f"{TRAIN}.clip_size": Is((None,), "single pictures", _VIDEO),
}


def training_set(t: Translation, keys: Keys) -> Kind:
    """Translate the pictures to train on; `degradation` follows for a set made on the fly.

    Raises:
        ConversionError: there are none, or none that can be trained on here.
    """
    name = t.value(f"{TRAIN}.type")
    kind = keys.kinds.get(plain(name))
    if kind is None:
        known = ", ".join(keys.kinds)
        raise ConversionError(f"{TRAIN}.type: {name} cannot be translated ({_VIDEO}; known are {known}).")
    if t.value(f"{TRAIN}.dataroot_gt") is None:
        raise ConversionError(f"{TRAIN}.dataroot_gt: expected a folder of pictures to train on, got none.")
    target = {"paired": "paired", "on the fly": "folder"}[kind]
    if kind == "on the fly" and isinstance(t.value(keys.meta), str) and _single(t.value(f"{TRAIN}.dataroot_gt")):
        target = "list"
    t.write(f"{TRAIN}.type", f"{TRAIN}.type", target)
    t.put(f"{TRAIN}.hard_sampling", 0.0, "there every place of a picture is drawn equally often")
    if target == "paired":
        _pair(t, TRAIN)
        t.drop(keys.meta, "paired takes every pair of the two folders; for some of them write a `list` file")
    else:
        t.drop(f"{TRAIN}.dataroot_lq", "not read there: low-resolution pictures are made on the fly")
    if target == "folder":
        t.write(f"{TRAIN}.dataroot_gt", f"{TRAIN}.path", _folders(t.value(f"{TRAIN}.dataroot_gt")))
        t.drop(keys.meta, "folder takes every picture; for some of them use a `list`")
    elif target == "list":
        t.write(keys.meta, f"{TRAIN}.file", t.value(keys.meta))
        t.write(f"{TRAIN}.dataroot_gt", f"{TRAIN}.root", _folders(t.value(f"{TRAIN}.dataroot_gt")))
    _augmentation(t)
    apply_table(t, {keys.workers: To(f"{TRAIN}.workers", whole())})
    apply_table(t, LOADING)
    return kind


def validation_set(t: Translation) -> None:
    """Translate the first validation set; the others, and one without originals, have no equal."""
    names = [name for name in t.entry("datasets") if str(name).split("_")[0] == "val"]
    for number, name in enumerate(names):
        place = f"datasets.{name}"
        if number > 0 or t.value(f"{place}.dataroot_gt") is None or t.value(f"{place}.dataroot_lq") is None:
            why = "one validation set only" if number > 0 else "a validation set needs originals and partners"
            t.drop_entry(place, why)
            continue
        if f"{place}.type" in t.leaves:
            t.write(f"{place}.type", "datasets.val.type", "paired")
        t.put("datasets.val.type", "paired", "originals and partners")
        _pair(t, place)
        t.always(f"{place}.io_backend.type", "pictures are read from files")
        t.drop(f"{place}.name", "data sets have no label")
        t.drop(place, "whole pictures are validated with")


def patches(t: Translation, sizes: dict[str, bool]) -> None:
    """Side of a patch; `sizes`: path -> whether it counts pixels of the original, in the order of precedence."""
    scale, done = t.out["scale"], False
    for path, of_original in sizes.items():
        if (value := t.value(path)) is None:
            t.always(path, "null: nothing is set")
        elif done:
            t.drop(path, "another key sets the side of a patch")
        else:
            try:
                side = whole(1)(value)
                if of_original and side % scale:
                    raise NoEqualError(f"no multiple of the scale {scale}")
                side = side // scale if of_original else side
                note = f"in low-resolution pixels: {value} / {scale}" if of_original else "in low-resolution pixels"
                t.write(path, "training.patch_size", whole(4)(side), note)
                done = True
            except NoEqualError as reason:
                t.drop(path, str(reason))


def batches(t: Translation, keys: Keys) -> None:
    """Batch size over all devices and accumulated parts."""
    devices = t.value("num_gpu", 1)
    count = devices if isinstance(devices, int) and devices > 0 else 1
    parts = t.value(keys.accumulate, 1)
    parts = parts if isinstance(parts, int) and parts > 0 else 1
    try:
        batch = whole(1)(t.value(keys.batch))
    except NoEqualError as reason:
        t.drop(keys.batch, str(reason))
        batch = None
    if batch is not None:
        factors = f"{batch}" + (f" x {count} devices" if count > 1 else "") + (f" x {parts} parts" if parts > 1 else "")
        note = f"over all devices and parts: {factors}" if factors != str(batch) else "over all devices"
        t.write(keys.batch, "training.batch_size", batch * count * parts, note)
    if keys.accumulate in t.leaves:
        t.write(keys.accumulate, "training.accumulate", parts)
    if "num_gpu" in t.leaves:
        if count > 1 and batch is not None:
            t.belongs("num_gpu", "training.batch_size", f"start with torchrun --nproc-per-node {count}")
        elif devices in (0, 1):
            t.always("num_gpu", "one process; --device cpu for 0" if devices == 0 else "one process")
        else:
            t.drop("num_gpu", "one process by default, batch_size is over all; torchrun starts several")


def _augmentation(t: Translation) -> None:
    """`augment` flips and turns; one of the two alone has no equal."""
    flips, turns = f"{TRAIN}.use_hflip", f"{TRAIN}.use_rot"
    try:
        wanted = [flag(t.value(key, True)) for key in (flips, turns)]
    except NoEqualError as reason:
        return t.drop(flips, str(reason)) or t.drop(turns, str(reason))
    given = [key for key in (flips, turns) if key in t.leaves]
    off = "augment: false, because augment both flips and turns"
    if wanted[0] == wanted[1]:
        for key in given:
            t.write(key, f"{TRAIN}.augment", wanted[0])
        return None
    if t.nearest:
        t.out["datasets"]["train"]["augment"] = True
        for key in given:
            t.near(key, f"{TRAIN}.augment", "not the same: augment both flips and turns")
        return None
    off = f"{off} (--nearest: true)"
    for key, on in zip((flips, turns), wanted, strict=True):
        if key in given and not on:
            t.write(key, f"{TRAIN}.augment", False)
        elif key in given:
            t.drop(key, off)
    t.put(f"{TRAIN}.augment", False, off)
    return None


def _pair(t: Translation, place: str) -> None:
    """Folders of originals and partners; `place` is the data set in the option file."""
    target = TRAIN if place == TRAIN else "datasets.val"
    for key, name in (("dataroot_gt", "hr"), ("dataroot_lq", "lr")):
        path = f"{place}.{key}"
        folder = _folders(t.value(path))
        if isinstance(folder, str):
            t.write(path, f"{target}.{name}", folder)
        elif isinstance(folder, list) and folder:
            t.drop(path, f"paired takes one folder: merge the {len(folder)}, or name the pairs in a `list` file")
            t.put(f"{target}.{name}", folder[0], f"the first of {len(folder)} folders stands in")
        else:
            raise ConversionError(f"{path}: expected a folder, got none.")
    template = t.value(f"{place}.filename_tmpl")
    if isinstance(template, str):
        ours = template.replace("{}", "{name}")
        t.write(f"{place}.filename_tmpl", f"{target}.filename_template", ours)


def _folders(value: Value) -> Value:
    """One folder, or several; a list of one is one."""
    folders = value if isinstance(value, list) else [value]
    if not all(item is None or isinstance(item, str) for item in folders):
        raise ConversionError(f"{TRAIN}: expected folders, got {folders}.")
    return folders[0] if len(folders) == 1 else folders


def _single(value: Value) -> bool:
    return isinstance(_folders(value), str)
