"""Networks as ONNX files: one graph for any batch, height and width."""

from math import ceil, prod
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

import sr_engine.export.common as common
from sr_engine.atomic import atomic_write
from sr_engine.errors import ExportError
from sr_engine.export.verify import check
from sr_engine.version import __version__

OPSETS = range(18, 26)
AXES = {0: "batch", 2: "height", 3: "width"}


def export_onnx(
    net: nn.Module,
    path: str | Path,
    *,
    precision: str = "fp32",
    opset: int = 20,
    accelerate: bool = True,
    verify: bool = False,
) -> common.Exported:
    """Write a network as one ONNX file, whole or not at all.

    The graph takes `input` (batch, channels, height, width) float32 in the value range of the model, for any batch and
    any size from 1x1, and gives `output` of `scale` times the size, float32, not clamped. It has standard operators
    only; padding that a network needs is in it. Which windows `routing: topk` keeps is decided in it too.

    Args:
        net: a network with a `spec`; it stays as it is.
        precision: of weights and arithmetic. fp16 keeps float32 in and out, and in the statistics of the content, the
            upsampler, the gates and the final sum.
        opset: of ONNX, 18 to 25; that very one is written.
        accelerate: whether known attention layers of a network of another project are swapped for ours first.
        verify: compare the file with torch at the sizes of `sr_engine.export.SIZES` before it takes its name. With a
            network of another project that is done in any case: its own code may settle on the size of an example.

    Raises:
        ExportError: the file cannot be written or would not be right, the opset or precision does not exist, or the
            exporter cannot express the network.
    """
    path = common.target(path, ".onnx", precision)
    if opset not in OPSETS:
        raise ExportError(f"opset {opset} cannot be written: expected {OPSETS[0]} to {OPSETS[-1]}.")
    own = common.prepared(net, precision, accelerate=accelerate)
    program = _program(own, opset)
    model = program.model
    _strip(model)
    model.metadata_props.update(common.description(own, precision))
    model.metadata_props["largest_result"] = str(_largest_result(program.exported_program))
    model.producer_name, model.producer_version = "sr-engine", __version__
    model.doc_string = _sentence(own)
    model.graph.name = common.name_of(own)
    import onnx
    import onnx_ir

    checks = ()
    try:
        with atomic_write(path) as temporary:
            onnx.save(onnx_ir.to_proto(model), str(temporary))
            if verify or common.must_be_verified(own):
                checks = check(net, temporary, precision, name=path)
    except OSError as error:
        raise ExportError(f"{path}: the file cannot be written ({error.strerror or error}).") from error
    return common.Exported(path, precision, len(model.graph), opset, checks)


def _program(net: nn.Module, opset: int) -> Any:
    with common.quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                net,
                (common.example(),),
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=(AXES,),
                opset_version=opset,
                dynamo=True,
                verbose=False,
                custom_translation_table=_translations(),
            )
        except ImportError as error:
            raise ExportError(f"writing ONNX files needs the packages onnx and onnxscript ({error}).") from error
        except Exception as error:  # of whatever network: anything
            raise ExportError(f"{common.name_of(net)} cannot be written as ONNX ({common.reason(error)}).") from error
    written = cast(Any, program).model.opset_imports.get("")
    if written != opset:
        raise ExportError(f"opset {opset} cannot be written for this network: the exporter gives {written}; take that.")
    return program


def _largest_result(program: torch.export.ExportedProgram) -> int:
    """Bytes of the largest tensor in the graph for each input pixel: what tiles are measured by."""
    results = [node.meta.get("val") for node in program.graph.nodes if node.op == "call_function"]
    largest = max((_bytes(x) for x in results if isinstance(x, torch.Tensor)), default=0)
    batch, _, height, width = common.EXAMPLE
    return ceil(largest / (batch * height * width))


def _bytes(x: torch.Tensor) -> int:
    """At the size of the example: the sides are symbols."""
    sides = [cast(Any, n).node.hint if isinstance(n, torch.SymInt) else n for n in x.shape]
    return prod(sides) * x.element_size()


def _strip(model: Any) -> None:
    """Take out what the exporter notes of each operator: lines of source with the folders of this machine."""
    import onnx_ir

    for function in model.functions.values():
        function.metadata_props.clear()
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _translations() -> dict[Any, Any]:
    """Operators that the exporter has no words for."""
    from onnxscript import opset18

    op: Any = opset18

    def stable_sort(self: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:  # noqa: ARG001
        # TopK promises that the first of equals comes first.
        count = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]), axis=0)
        return op.TopK(self, count, axis=dim, largest=int(descending), sorted=1)

    return {torch.ops.aten.sort.stable: stable_sort}


def _sentence(net: nn.Module) -> str:
    spec = cast(Any, net).spec
    low, high = spec.value_range
    return (
        f"Super-resolution x{spec.scale}: RGB (batch, {spec.channels}, height, width) in {low:g}..{high:g}, any size "
        f"from 1x1; the output may overshoot that range. Licence of the weights: {spec.licence}. "
        "All about it is JSON under the metadata key sr_engine."
    )
