"""Warm start: take over what fits from another model, also one of another scale."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.errors import ModelFileError
from sr_engine.layers.reparam import RepConv3x3
from sr_engine.models.community_files import is_foreign, read_weights
from sr_engine.models.community_network import CommunityNetwork
from sr_engine.models.community_transfer import match_weights
from sr_engine.models.files import find_model, read_model_file


@dataclass
class TransferReport:
    """Names of weights: taken over, taken over by interpolation, left as they were, and found no place.

    `shown` is how many of a kind the summary names.
    """

    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    shown: int = 8

    def summary(self) -> str:
        """One line a kind, with the names where they are few or matter."""
        lines = [f"{len(self.loaded)} weights taken over"]
        for what, names in (
            ("interpolated for the new scale", self.resized),
            ("not in the source, left as initialised", self.missing),
            ("of the source without a place", self.unused),
        ):
            if names:
                more = ", ..." if len(names) > self.shown else ""
                lines.append(f"{len(names)} {what}: {', '.join(names[: self.shown])}{more}")
        return "\n".join(lines)


def transfer_weights(
    net: nn.Module, source: str | Path, *, key: str | None = None, strict: bool = True
) -> TransferReport:
    """Copy every weight of `source` (file, run folder or name) that fits into `net`, in place.

    Between scales the last convolution is interpolated: its output channels are the sub-pixel kernels of one output
    pixel's cell, a picture of scale x scale samples whose values depend smoothly on the position. A source that is
    folded for inference goes into the 3x3 branch of the convolutions.

    Args:
        key: where the weights are in a file of another program, such as `params`; None = the averaged ones.
        strict: for a network of another project: whether a weight that does not fit is an error.

    Raises:
        ModelFileError: the source cannot be read, or nothing in it fits; with `strict` also as said there.
    """
    if isinstance(net, CommunityNetwork):
        return _transfer_by_name(net, source, key, strict)
    file = read_model_file(source, key=key)
    given = dict(file.state)
    report = TransferReport()
    if file.folded:
        _absorb_folded(net, given, report)
    transfer_state(net, given, file.spec.scale, report)
    if not (report.loaded or report.resized):
        raise ModelFileError(
            f"{file.path}: nothing in it fits the network ({file.spec.architecture}); train from scratch."
        )
    return report


def transfer_state(
    net: nn.Module, state: Mapping[str, Tensor], scale: int, report: TransferReport | None = None
) -> TransferReport:
    """Copy what fits of the weights of a network of `scale` into `net`, in place, as `transfer_weights` does.

    Args:
        report: of what `net` has from elsewhere, to add to.
    """
    report = report or TransferReport()
    given = dict(state)
    own = net.state_dict()
    cell = 3 * scale**2
    update: dict[str, Tensor] = {}
    for name, target in own.items():
        value = given.pop(name, None)
        if value is None:
            if name not in report.loaded:
                report.missing.append(name)
        elif value.shape == target.shape:
            update[name] = value
            report.loaded.append(name)
        elif name.startswith("tail.") and len(value) == cell and value.shape[1:] == target.shape[1:]:
            update[name] = resize_sub_pixels(value, scale, getattr(net, "scale", 1))
            report.resized.append(name)
        else:
            report.missing.append(name)
            report.unused.append(name)
    report.unused += given
    net.load_state_dict(update, strict=False)
    return report


def _transfer_by_name(net: CommunityNetwork, source: str | Path, key: str | None, strict: bool) -> TransferReport:
    path = find_model(source)
    given = read_weights(path, key) if is_foreign(path) else read_model_file(path).state
    fitting, missing, unused = match_weights(net, given, path, strict=strict)
    net.load_state_dict({**net.state_dict(), **fitting})
    return TransferReport(loaded=list(fitting), missing=missing, unused=unused, shown=40)


def resize_sub_pixels(value: Tensor, scale: int, new_scale: int) -> Tensor:
    """Weights (3 * scale^2, ...) before a pixel shuffle -> (3 * new_scale^2, ...), bilinear in the sub-pixel position.

    Sub-pixel p of scale s lies at (p + 1/2) / s of the cell, so the half-pixel rule of `interpolate` is exact here.
    """
    cells = value.reshape(3, scale, scale, -1).permute(0, 3, 1, 2).float()
    cells = F.interpolate(cells, size=(new_scale, new_scale), mode="bilinear")
    return cells.permute(0, 2, 3, 1).reshape(3 * new_scale**2, *value.shape[1:]).to(value.dtype)


def _absorb_folded(net: nn.Module, given: dict[str, Tensor], report: TransferReport) -> None:
    """Move plain convolutions of `given` into the re-parameterised ones of `net` under the same names."""
    for name, module in net.named_modules():
        if not isinstance(module, RepConv3x3):
            continue
        weight, bias = given.get(f"{name}.weight"), given.get(f"{name}.bias")
        if weight is None or bias is None or weight.shape != module.weight.shape:
            continue
        module.absorb(weight, bias)
        for key in ("weight", "bias"):
            del given[f"{name}.{key}"]
        report.loaded += [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
