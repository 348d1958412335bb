"""The weights of a TorchScript archive, without its program.

`torch.jit.load` runs the `__setstate__` of every class in the archive, and TorchScript can write files
(`torch.from_file(name, shared=True)`). So the pickle beside the program is read here: objects of the archive's classes
become plain holders of what is in them, tensors are made of the archive's bytes, and any other name is refused.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_TYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Held:
    """In place of an object of a class in the archive."""


def read_scripted(path: Path) -> dict[str, Tensor]:
    """Every tensor in the archive by the names of the modules it is in, on the CPU.

    Raises:
        Exception: of any kind, where the archive is damaged or holds anything else.
    """
    with zipfile.ZipFile(path) as archive:
        folder = next(name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        with archive.open(folder) as file:
            root = _Unpickler(file, archive, folder.removesuffix("data.pkl")).load()
    return dict(_tensors(root, ""))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive, self.folder = archive, folder
        self.read: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Held
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":
            return _same if name.startswith("build_") and name.endswith("list") else _refuse(module, name)
        return _refuse(module, name)

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, key, _, _ = pid
        if key not in self.read:
            info = self.archive.getinfo(f"{self.folder}data/{key}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise pickle.UnpicklingError("its tensors are compressed")  # a few bytes could be any number then
            content = bytearray(self.archive.read(info))
            self.read[key] = torch.frombuffer(content, dtype=kind) if content else torch.empty(0, dtype=kind)
        return self.read[key]


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def _same(value: Any, *_: Any) -> Any:
    return value


def _refuse(module: str, name: str) -> Callable[..., Any]:
    raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name.removesuffix("."), value
    elif isinstance(value, _Held):
        for key, inner in vars(value).items():
            yield from _tensors(inner, f"{name}{key}.")
