"""Files of weights that other programs wrote: a state dict, as it is or inside a dict with others.

Nothing in a file is executed: pickles are read with `weights_only=True`.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sr_engine.errors import ModelFileError
from sr_engine.models.archive import ArchiveError, check_archive
from sr_engine.models.torchscript_file import read_scripted

PICKLES = (".pth", ".pt", ".ckpt")
SUFFIXES = (*PICKLES, ".safetensors")

# Where the weights may be, the best first: averaged ones before those in training.
WEIGHT_KEYS = (
    "params_ema",
    "params-ema",
    "ema",
    "params",
    "state_dict",
    "model_state_dict",
    "generator",
    "net_g",
    "model",
    "net",
)
_LEVELS = 4  # of dicts around them: a pickle may also hold itself
# What wrappers put before every name.
_WRAPPERS = ("module.", "_orig_mod.", "netG.")


def is_foreign(path: Path) -> bool:
    """Whether a file of weights comes from another program: it has no description of ours."""
    if path.suffix.lower() in PICKLES:
        return True
    if path.suffix.lower() != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "sr_engine" not in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_weights(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The weights of a file by name, on the CPU, without what wrappers (DataParallel, torch.compile) put before names.

    Args:
        key: of the dict around the weights, such as `params`; None = the first of WEIGHT_KEYS, else the file itself.

    Raises:
        ModelFileError: the file cannot be read, holds no weights, or has no such key.
    """
    content = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)
    if not isinstance(content, Mapping):
        raise ModelFileError(
            f"{path}: holds a {type(content).__name__}, not weights; expected a state dict (names to tensors)."
        )
    if "ema" in content and "generator" in content and "iteration" in content:
        raise ModelFileError(f"{path}: a training checkpoint of sr-engine; give its run folder or model.safetensors.")
    chosen = _chosen(path, content, key)
    state = {name: value for name, value in chosen.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        found = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise ModelFileError(f"{path}: holds no weights (found {found}); expected a state dict (names to tensors).")
    check_weights(path, state)
    return without_wrappers(state)


def check_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Every tensor is an ordinary one of finite numbers, with as much memory of its own as its shape says.

    Raises:
        ModelFileError: one is not; it is named.
    """
    for name, weight in state.items():
        problem = None
        if weight.layout is not torch.strided or weight.device.type != "cpu" or weight.is_quantized:
            problem = "is stored sparse, quantised or without its numbers"
        elif weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
            problem = f"says {tuple(weight.shape)}, of which only a part is in the file"
        elif weight.is_floating_point() and not _finite(weight):
            problem = f"has {'NaN' if weight.float().isnan().any() else 'infinite numbers'}"
        if problem is not None:
            raise ModelFileError(f"{path}: weight '{name}' {problem}; save or download it again.")


def _finite(weight: Tensor) -> bool:
    weight = weight if weight.element_size() >= 4 else weight.float()  # not all kinds of 8 bits can be asked
    return bool(weight.isfinite().all())


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights without the names of wrappers before each."""
    names = dict(state)
    while prefix := next((p for p in _WRAPPERS if all(name.startswith(p) for name in names)), None):
        names = {name.removeprefix(prefix): value for name, value in names.items()}
    return names


def _chosen(path: Path, content: Mapping[str, Any], key: str | None, levels: int = _LEVELS) -> Mapping[str, Any]:
    inner = {name: value for name, value in content.items() if isinstance(value, Mapping) and _has_weights(value)}
    if key is not None:
        if key not in inner:
            there = f"it has {', '.join(inner)}" if inner else "the weights stand in it as they are: leave the key out"
            raise ModelFileError(f"{path}: has no weights under param_key '{key}'; {there}.")
        return inner[key]
    name = next((name for name in WEIGHT_KEYS if name in inner), None)
    if name is None and len(content) == 1 and inner:
        name = next(iter(inner))
    return content if name is None or levels == 0 else _chosen(path, inner[name], None, levels - 1)


def _has_weights(content: Mapping[str, Any], levels: int = _LEVELS) -> bool:
    return any(
        isinstance(value, Tensor) or (isinstance(value, Mapping) and levels > 0 and _has_weights(value, levels - 1))
        for value in content.values()
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path}: not a complete safetensors file ({error}); save or download it again."
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats that old versions of torch wrote
            check_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        text = str(error)
        if isinstance(error, ArchiveError):
            raise ModelFileError(f"{path}: {error}; save or download it again.") from error
        if "TorchScript" in text:
            return _read_torchscript(path)
        forbidden = re.search(r"GLOBAL (\S+)", text)
        if forbidden is not None:
            raise ModelFileError(
                f"{path}: holds an object of type {forbidden[1]}, which could run code and is not loaded; "
                "save its weights alone, as safetensors or with torch.save(net.state_dict(), ...)."
            ) from error
        raise ModelFileError(
            f"{path}: not a file that torch.save wrote, or not a whole one; save or download it again."
        ) from error


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    """The weights of a TorchScript archive; nothing of its program is run, not even where it is loaded."""
    try:
        return read_scripted(path)
    except Exception as error:  # a damaged pickle can fail in any way
        raise ModelFileError(f"{path}: a TorchScript archive that cannot be read; save its weights alone.") from error
