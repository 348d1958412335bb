"""What both kinds of files share: which network goes in, what is written beside it, and quiet."""

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from sr_engine.atomic import check_target
from sr_engine.errors import EngineError, ExportError
from sr_engine.export.verify import Difference
from sr_engine.layers.reparam import fold_reparam
from sr_engine.models.community_network import CommunityNetwork
from sr_engine.models.files import FORMAT
from sr_engine.models.generator import Generator
from sr_engine.models.onnx_network import OnnxNetwork
from sr_engine.models.spec import ModelSpec
from sr_engine.refused import refusal
from sr_engine.version import __version__

Precision = Literal["fp32", "fp16"]
PRECISIONS = ("fp32", "fp16")

# Neither equal nor multiples of anything: what a graph says of sizes must not rest on those of the example.
EXAMPLE = (2, 3, 41, 55)
_CHATTER = ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        nodes: operators in its graph, a measure of what a runtime has to launch.
        opset: of ONNX; None for a .pt2.
        checks: the largest differences from torch at each size, where it was verified.
    """

    path: Path
    precision: str
    nodes: int
    opset: int | None = None
    checks: tuple[Difference, ...] = ()


def target(path: str | Path, suffix: str, precision: str) -> Path:
    """`path`, once it is sure that a file can be written there and that there is such a precision.

    Raises:
        ExportError: not so.
    """
    if precision not in PRECISIONS:
        why = refusal(precision)
        hint = "" if why is None else f" ({why})"
        raise ExportError(f"precision '{precision}' cannot be exported: expected {' or '.join(PRECISIONS)}{hint}.")
    try:
        return check_target(path, (suffix,))
    except EngineError as error:
        raise ExportError(str(error)) from error


def prepared(net: nn.Module, precision: str, *, accelerate: bool) -> nn.Module:
    """A copy of a network on the CPU for inference: folded, its attention swapped for ours, in its precision.

    Its input and output are float32 whatever the precision.

    Raises:
        ExportError: the network has no description, or is none that can be taken apart.
    """
    spec = getattr(net, "spec", None)
    if not isinstance(spec, ModelSpec):
        raise ExportError(
            f"cannot export a {type(net).__name__}: a model needs a `spec` (sr_engine.models.spec.ModelSpec)."
        )
    if isinstance(net, OnnxNetwork):
        raise ExportError(f"{net.path}: is an ONNX file already: export the model file it was made from.")
    net = settled(fold_reparam(copy.deepcopy(net).cpu().float()).eval().requires_grad_(False))
    if accelerate and isinstance(net, CommunityNetwork):
        from sr_engine.dropin import accelerate as swap

        swap(net)
    return halved(net) if precision == "fp16" else net


def must_be_verified(net: nn.Module) -> bool:
    """Whether nobody has seen the file of such a network to be right: its own code may compute with Python's numbers
    what depends on the size, as SwinIR's mask of shifted windows, and the graph then holds those of the example."""
    return not isinstance(net, Generator)


def settled(net: nn.Module) -> nn.Module:
    """Convolutions that merge their branches at each call, as SPAN's do, have done it once and for all; in place."""
    for module in net.modules():
        if callable(merge := getattr(module, "update_params", None)) and hasattr(module, "eval_conv"):
            merge()
            cast(Any, module).update_params = _nothing
    return net


def _nothing() -> None:
    pass


def halved(net: nn.Module) -> nn.Module:
    """The network with weights in float16, in place, and float32 in and out.

    What is measured of the picture, the upsampler, the gates that rank windows and the final sum stay float32.
    """
    if isinstance(net, Generator):
        exact = (net.analyzer, net.upsampler, *(getattr(stage, "gate", None) for stage in net.body))
        kept = {id(tensor) for part in exact if part is not None for tensor in chain(part.parameters(), part.buffers())}
        for tensor in chain(net.parameters(), net.buffers()):
            if id(tensor) not in kept:
                tensor.data = tensor.data.half()
        return net
    if isinstance(net, CommunityNetwork):
        net.net.half()
        net.call = _HalfCall(net.call)
        return net
    return _HalfNetwork(net)


class _HalfCall:
    """How a network of another project is called in float16."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, net: nn.Module, x: Tensor) -> Tensor:
        x = x.half()
        return (net(x) if self.call is None else self.call(net, x)).float()


class _HalfNetwork(nn.Module):
    """Any other network in float16, between float32 pictures."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.half()
        self.spec = cast(Any, net).spec

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.half()).float()


def description(net: nn.Module, precision: str) -> dict[str, str]:
    """What a file says of itself: `sr_engine`, JSON as in model files, and the main facts one by one in plain text."""
    spec = cast(Any, net).spec
    sizes = asdict(net.sizes) if isinstance(net, CommunityNetwork) else {}
    whole = {"format": FORMAT, "folded": True, "spec": asdict(spec), "precision": precision, "sizes": sizes}
    facts = {
        "sr_engine": json.dumps(whole),
        "architecture": name_of(net),
        "scale": str(spec.scale),
        "channels": str(spec.channels),
        "value_range": json.dumps(list(spec.value_range)),
        "size_multiple": str(spec.size_multiple),
        "receptive_field": "unbounded" if spec.receptive_field is None else str(spec.receptive_field),
        "precision": precision,
        "licence": spec.licence,
        "producer": f"sr-engine {__version__}",
    }
    if name := spec.training.get("name"):
        facts["name"] = str(name)
    return facts


def name_of(net: nn.Module) -> str:
    """What the network calls itself."""
    spec = cast(Any, net).spec
    return str(spec.arguments.get("arch", spec.architecture))


def example() -> Tensor:
    """A picture to trace with."""
    return torch.linspace(0, 1, torch.Size(EXAMPLE).numel()).view(EXAMPLE)


def reason(error: Exception, limit: int = 200) -> str:
    """What is worth telling of an exporter's error: the last cause, in one line."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:limit]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters tell their own developers."""
    loggers = [logging.getLogger(name) for name in _CHATTER]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
