"""The teacher of a run: a frozen network that enlarges what the generator is given."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sr_engine.errors import ConfigError, ModelFileError
from sr_engine.infer.loading import load
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.community_network import CommunityNetwork
from sr_engine.models.files import find_model
from sr_engine.models.spec import HasSpec

_LICENCE_KEYS = ("licence", "license", "modelspec.license")


class Teacher:
    """A network from a file, in eval mode, without gradients, on its device.

    Args:
        source: model name, run folder, model file or file of weights of another program.
        scale: that it must have.
        dtype: of autocast in calls; networks that do not compute in bfloat16 take float32.
        device: where it computes.
        accelerate: whether attention layers of another project's network are swapped for fused ones.

    Attributes:
        net: the network.
        facts: what a model file says of its teacher: name, sha256 of the file, licence where the file says it.

    Raises:
        ConfigError: there is no such model, it cannot be read, or its scale is another.
    """

    def __init__(
        self, source: str, *, scale: int, dtype: torch.dtype, device: torch.device, accelerate: bool = True
    ) -> None:
        try:
            path = find_model(source)
            net, _, self.device = load(path, None, str(device), accelerate=accelerate)
        except ModelFileError as error:
            raise ConfigError(f"distill.teacher: {error}") from error
        self.spec = cast(HasSpec, net).spec
        if self.spec.scale != scale:
            raise ConfigError(
                f"distill.teacher: {path} upscales by {self.spec.scale}, expected {scale}, the scale of this "
                f"configuration: give a teacher of scale {scale}, or train with scale: {self.spec.scale}."
            )
        self.facts = _facts(source, path)
        self.net = net.eval().requires_grad_(False)
        exact = dtype == torch.bfloat16 and isinstance(net, CommunityNetwork) and not net.supports_bfloat16
        self.dtype = torch.float32 if exact else dtype
        self._upscaler = Upscaler(self.net, precision="fp32")

    @torch.no_grad()
    def __call__(self, lr: Tensor) -> Tensor:
        """(B,3,h,w) in [0,1] -> (B,3,h*scale,w*scale) fp32 in [0,1], in one pass."""
        low, high = self.spec.value_range
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            sr = self.net(low + (high - low) * lr)
        return ((sr.float() - low) / (high - low)).clamp(0, 1)

    def pictures(self, lr: Tensor) -> Tensor:
        """As a call, for whole pictures of any size, tile by tile where memory asks for it; always computed in fp32,
        so that what is kept serves runs of any precision."""
        return self._upscaler(lr)


def ensembled(upscale: Callable[[Tensor], Tensor], lr: Tensor, upright: Tensor | None = None) -> Tensor:
    """Mean of the outputs for the 8 symmetries of the square, each turned back (Timofte et al. 2016, sec. 3.6).

    Args:
        upscale: (B,3,h,w) -> (B,3,h*scale,w*scale).
        upright: `upscale(lr)`, where it is there already.
    """
    total = upscale(lr) if upright is None else upright.clone()
    for turn in range(1, 8):
        total += turned_back(upscale(turned(lr, turn).contiguous(memory_format=torch.channels_last)), turn)
    return total / 8


def turned(x: Tensor, turn: int) -> Tensor:
    """(B,C,H,W) in one of 8 symmetries: flipped by rows (1), by columns (2), then transposed (4), as patches are."""
    x = x.flip([axis for axis, bit in ((2, 1), (3, 2)) if turn & bit])
    return x.transpose(2, 3) if turn & 4 else x


def turned_back(x: Tensor, turn: int) -> Tensor:
    """The inverse of `turned`."""
    x = x.transpose(2, 3) if turn & 4 else x
    return x.flip([axis for axis, bit in ((2, 1), (3, 2)) if turn & bit])


def _facts(source: str, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    licence = _licence(path)
    return {"name": Path(source).name, "sha256": digest, **({} if licence is None else {"licence": licence})}


def _licence(path: Path) -> str | None:
    """What the metadata of a safetensors file says; other files say nothing."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    if "sr_engine" in metadata:
        licence = json.loads(metadata["sr_engine"])["spec"].get("licence")
        return None if licence == "unspecified" else licence
    return next((metadata[key] for key in _LICENCE_KEYS if metadata.get(key)), None)
