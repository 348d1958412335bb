"""From the name of a model to a network on its device, ready to upscale."""

import logging
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from sr_engine.device import Precision, pick_device, pick_precision
from sr_engine.errors import EngineError
from sr_engine.infer.classical import CLASSICAL, ClassicalUpsampler
from sr_engine.infer.default_model import SCALE, default_model
from sr_engine.models.community_network import CommunityNetwork
from sr_engine.models.files import find_model, load_model
from sr_engine.models.onnx_network import OnnxNetwork, is_onnx, load_onnx
from sr_engine.models.spec import ModelSpec

logger = logging.getLogger(__name__)


def load(
    model: str | Path | nn.Module | None, scale: int | None, device: str, *, accelerate: bool
) -> tuple[nn.Module, str, torch.device]:
    """The network, what it is called, and its device; see `Upscaler`.

    Raises:
        EngineError: there is no such model, scale or device.
    """
    if isinstance(model, nn.Module):
        spec = getattr(model, "spec", None)
        if not isinstance(spec, ModelSpec):
            raise EngineError(f"network {type(model).__name__} has no `spec` (a ModelSpec): load it from a model file.")
        if device != "auto":
            model = model.to(pick_device(device))
        if isinstance(model, OnnxNetwork):
            return model, str(model.path), model.device
        first = next(chain(model.parameters(), model.buffers()), None)
        place = pick_device(device) if first is None else first.device
        return model, spec.architecture, place
    place = pick_device(device)
    if model is None:
        model = default_model(SCALE if scale is None else scale)
    if str(model) in CLASSICAL:
        if scale is None:
            raise EngineError(f"'{model}' upscales by any whole number: say which with scale (--scale 4).")
        return ClassicalUpsampler(str(model), scale), str(model), place
    if is_onnx(model):
        net = load_onnx(find_model(model), place, or_cpu=device == "auto")
        return net, str(model), net.device
    net = load_model(model, device=str(place)).to(memory_format=torch.channels_last)
    if accelerate and isinstance(net, CommunityNetwork):
        _accelerate(net)
    return net, str(model), place


def _accelerate(net: nn.Module) -> None:
    from sr_engine.dropin import accelerate

    _, report = accelerate(net)
    logger.info("accelerate: %s", report.summary())


def compute_dtype(net: nn.Module, precision: Precision, device: torch.device) -> torch.dtype:
    """What a network computes its convolutions and matrix products in.

    Raises:
        EngineError: a precision that does not exist here.
    """
    if isinstance(net, OnnxNetwork):
        own = net.spec.arguments.get("precision", "its own precision")
        if precision not in ("auto", own):
            raise EngineError(
                f"precision {precision} is not that of {net.path}: an ONNX file computes in what it was exported in "
                f"({own}); leave the precision out."
            )
        return torch.float32
    if precision == "auto" and isinstance(net, CommunityNetwork) and not net.supports_bfloat16:
        return torch.float32
    return pick_precision(precision, device)
