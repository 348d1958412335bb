"""ONNX files as networks: those that `sr-engine export` wrote, and others that look like an upscaler."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from sr_engine.errors import ModelFileError
from sr_engine.models.community_network import CommunityNetwork, SizeRule
from sr_engine.models.onnx_check import check_onnx
from sr_engine.models.onnx_session import ELEMENTS, DeviceError, compute, open_session, told
from sr_engine.models.spec import ModelSpec, read_spec

logger = logging.getLogger(__name__)

ARCHITECTURE = "onnx"
# A file of another program does not say what memory it takes: 64 maps of the output's size were more than that of
# every network of spandrel's that was tried.
_LARGEST_MAPS = 64
_RESULTS_ALIVE = 6
_PROBE = 64
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)


def is_onnx(path: str | Path) -> bool:
    """Whether a file is taken for one of ONNX."""
    return Path(path).suffix.lower() == ".onnx"


class OnnxNetwork(nn.Module):
    """An ONNX file as a network: (B, C, H, W) -> (B, C, H * scale, W * scale) float32, any H, W >= 1, no gradients.

    It is used like the network it was made from: tiles, precision and value range follow the description in the file. A
    file of another program is asked what it does (`_judged`): it gets pictures in 0..1, padded where it refuses their
    size, in luma if it has one channel.

    Args:
        device: where onnxruntime computes; `to` opens the file again elsewhere.

    Attributes:
        path: the file.
        spec: its description; `arguments` say what it was exported from.
        device: where it is.
        bytes_per_pixel: memory of a pass for each input pixel, by which tiles are chosen.

    Raises:
        ModelFileError: the file is damaged, or has not the form of an upscaler; DeviceError: it cannot be there.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.path, self.device = Path(path), torch.device(device)
        check_onnx(self.path)
        self.session = _Session(self.path, self.device)
        facts = self.session.facts
        self.net: nn.Module = self.session
        if "sr_engine" in facts:
            self.spec, largest = _described(self.path, facts)
            self.session.scale = self.spec.scale
        else:
            self.net, self.spec = _judged(self.path, self.session)
            largest = 4 * _LARGEST_MAPS * self.spec.scale**2
        self.scale = self.spec.scale
        self.bytes_per_pixel = float(largest * _RESULTS_ALIVE)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As `nn.Module.to` for a device; what is computed in is the file's affair."""
        device = cast(Any, torch._C)._nn._parse_to(*args, **kwargs)[0]
        if device is not None and device != self.device:
            self.session.session = open_session(self.path, device)
            self.device = self.session.device = device
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxNetwork":
        return OnnxNetwork(self.path, self.device)


def load_onnx(path: str | Path, device: str | torch.device = "cpu", *, or_cpu: bool = False) -> OnnxNetwork:
    """The network in an ONNX file.

    Args:
        or_cpu: where onnxruntime cannot use the device, take the CPU and say so in the log.

    Raises:
        ModelFileError: see `OnnxNetwork`.
    """
    try:
        return OnnxNetwork(path, device).eval()
    except DeviceError as error:
        if not or_cpu:
            raise
        logger.warning("%s: computed on the CPU: %s", path, str(error).removeprefix(f"{path}: "))
        return OnnxNetwork(path).eval()


class _Session(nn.Module):
    """A session whose output is `scale` times as large as its input, as a module."""

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__()
        self.path, self.device = path, device
        self.session = open_session(path, device)
        self.scale = 1
        self.singly = False  # the graph takes one picture at a time
        try:
            _check_signature(path, self.session)
            self.facts: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise ModelFileError(f"{path}: its names or metadata are no text; export or download it again.") from error

    def forward(self, x: Tensor) -> Tensor:
        if self.singly and len(x) > 1:
            return torch.cat([self.forward(part) for part in x.split(1)])
        batch, channels, height, width = x.shape
        size = (batch, channels, height * self.scale, width * self.scale)
        try:
            return compute(self.session, x, size, self.device).float()
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime's kinds share no base
            raise ModelFileError(
                f"{self.path}: does not run on a picture of {height}x{width} ({told(error)})."
            ) from error

    def shape_for(self, x: Tensor) -> tuple[int, ...] | None:
        """The shape that comes out for `x`; None where it is refused."""
        given = self.session.get_inputs()[0]
        try:
            return self.session.run(None, {given.name: x.numpy().astype(ELEMENTS[given.type][0])})[0].shape
        except Exception:  # onnxruntime's kinds share no base
            return None


def _described(path: Path, facts: dict[str, str]) -> tuple[ModelSpec, int]:
    """The spec that `sr-engine export` wrote into the file, and the numbers in the largest result for a pixel."""
    try:
        whole = json.loads(facts["sr_engine"])
        spec = read_spec(whole["spec"])
        arguments = {"scale": spec.scale, "of": facts["architecture"], "precision": whole["precision"]}
        largest = int(facts.get("largest_result", 4 * _LARGEST_MAPS * spec.scale**2))
        if not 0 < largest < 2**63:
            raise ValueError(f"largest_result {largest}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path}: the description in the file is damaged ({error!r}); export it again.") from error
    return replace(spec, architecture=ARCHITECTURE, arguments=arguments), largest


def _check_signature(path: Path, session: Any) -> None:
    """One picture in and one out, of any size.

    Raises:
        ModelFileError: otherwise; says what was found.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    form = "one input and one output (batch, 1 or 3 channels, height, width) in float32 or float16, of any size"
    problem = None
    if len(inputs) != 1 or len(outputs) != 1:
        problem = f"has {len(inputs)} inputs and {len(outputs)} outputs"
    elif wrong := next((x for x in (inputs[0], outputs[0]) if x.type not in ELEMENTS), None):
        problem = f"'{wrong.name}' is {wrong.type}"
    elif len(shape := inputs[0].shape) != 4:
        problem = f"'{inputs[0].name}' has {len(shape)} axes"
    elif isinstance(shape[1], int) and shape[1] not in (1, 3):
        problem = f"'{inputs[0].name}' has {shape[1]} channels"
    elif any(isinstance(side, int) for side in shape[2:]):
        problem = f"'{inputs[0].name}' has the fixed size {shape[2]}x{shape[3]}"
    elif isinstance(shape[0], int) and shape[0] != 1:
        problem = f"'{inputs[0].name}' takes {shape[0]} pictures at once"
    if problem is not None:
        raise ModelFileError(f"{path}: cannot upscale pictures: {problem}; expected {form}.")


def _judged(path: Path, session: _Session) -> tuple[CommunityNetwork, ModelSpec]:
    """The network in a file that does not describe itself: its scale and the sizes it takes are found by trying."""
    batch, channels = session.session.get_inputs()[0].shape[:2]
    channels = channels if isinstance(channels, int) else 3
    session.singly = isinstance(batch, int)
    shape = session.shape_for(torch.zeros(1, channels, _PROBE, _PROBE))
    if shape is None:
        raise ModelFileError(f"{path}: cannot upscale pictures: it does not run on one of {_PROBE}x{_PROBE}.")
    scale = shape[-1] // _PROBE if len(shape) == 4 else 0
    if scale < 1 or shape != (1, channels, _PROBE * scale, _PROBE * scale):
        raise ModelFileError(
            f"{path}: cannot upscale pictures: it makes {tuple(shape)} of (1, {channels}, {_PROBE}, {_PROBE}); "
            "expected as many channels, and height and width times one whole number."
        )
    session.scale = scale

    def takes(height: int, width: int) -> bool:
        expected = (1, channels, height * scale, width * scale)
        return session.shape_for(torch.zeros(1, channels, height, width)) == expected

    multiple = next((m for m in _MULTIPLES if takes(_PROBE + m, _PROBE + 2 * m if m < _PROBE else _PROBE)), None)
    if multiple is None:
        raise ModelFileError(f"{path}: cannot upscale pictures: it runs at {_PROBE}x{_PROBE}, not at other sizes.")
    sides = [side for side in (1, 8, 16, 32, _PROBE) if side % multiple == 0] or [multiple]
    minimum = next((side for side in sides if takes(side, side)), _PROBE)
    spec = ModelSpec(
        architecture=ARCHITECTURE,
        arguments={"scale": scale, "arch": path.name},
        scale=scale,
        size_multiple=multiple,
        licence=session.facts.get("licence", "unspecified"),
    )
    rule = SizeRule(minimum, multiple)
    return CommunityNetwork(cast(nn.Module, session), spec, channels=channels, sizes=rule).eval(), spec
