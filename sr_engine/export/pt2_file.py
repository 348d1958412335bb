"""Networks as archives of torch.export (.pt2): torch alone runs them."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

import sr_engine.export.common as common
from sr_engine.atomic import atomic_write
from sr_engine.errors import ExportError
from sr_engine.export.verify import check

AXES = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)


def export_pt2(
    net: nn.Module, path: str | Path, *, precision: str = "fp32", accelerate: bool = True, verify: bool = False
) -> common.Exported:
    """Write a network as one .pt2, whole or not at all: a graph of torch's own operators for any batch and any size.

    `torch.export.load(path).module()` runs it, (batch, channels, height, width) float32 -> `scale` times the size,
    without sr-engine. What the file says of itself are extra files of the archive, named as the keys of the ONNX file.

    Args:
        as `export_onnx`.

    Raises:
        ExportError: the file cannot be written or would not be right, there is no such precision, or torch.export
            cannot express the network.
    """
    path = common.target(path, ".pt2", precision)
    own = common.prepared(net, precision, accelerate=accelerate)
    program = _program(own)
    checks = ()
    try:
        with atomic_write(path) as temporary:
            torch.export.save(program, temporary, extra_files=common.description(own, precision))
            if verify or common.must_be_verified(own):
                checks = check(net, temporary, precision, name=path)
    except OSError as error:
        raise ExportError(f"{path}: the file cannot be written ({error.strerror or error}).") from error
    operators = sum(node.op == "call_function" for node in program.graph.nodes)
    return common.Exported(path, precision, operators, None, checks)


def _program(net: nn.Module) -> torch.export.ExportedProgram:
    with common.quiet(), torch.no_grad():
        try:
            program = torch.export.export(net, (common.example(),), dynamic_shapes=(AXES,))
        except Exception as error:  # of whatever network: anything
            raise ExportError(f"{common.name_of(net)} cannot be written as .pt2 ({common.reason(error)}).") from error
    return _for_any_size(program)


def _for_any_size(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Without what torch.export concludes of sizes from its example.

    It takes decisions such as "this is contiguous unless a side is 1" for promises of the caller, and the program would
    refuse sides of 1 and whole windows, which it computes rightly (see the sizes of `verify`). The ONNX exporter drops
    them too. The list is private to torch; where there is none, there is nothing to drop.
    """
    guards = getattr(program, "_guards_code", None)
    if isinstance(guards, list):
        guards.clear()
    limits = cast(dict[Any, Any], program.range_constraints)
    for symbol, limit in list(limits.items()):
        limits[symbol] = type(limit)(1, limit.upper)
    return program
