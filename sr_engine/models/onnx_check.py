"""What an ONNX file claims, before onnxruntime acts on it: numbers that are there, files beside it, no huge constants.

This bounds what loading takes by the size of the file. What a graph computes while it is optimised or run cannot be
bounded from outside: a file of an unknown author is best run where memory is limited (a container, `ulimit -v`).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sr_engine.errors import ModelFileError

_LARGEST = 2**31 - 1  # bytes of a message; what is larger keeps its numbers in other files
_MADE = 2**28  # numbers that a node may make of a constant shape
_MAKERS = {"ConstantOfShape": 0, "Expand": 1}  # which input is the shape


def check_onnx(path: Path) -> None:
    """Look through a file without running anything of it.

    Raises:
        ModelFileError: it is damaged, claims numbers that it does not hold, or names files outside of its folder.
    """
    from onnx import ModelProto  # takes a third of a second

    if path.stat().st_size > _LARGEST:
        raise ModelFileError(f"{path}: is larger than 2 GiB, which no ONNX file can be; export or download it again.")
    model: Any = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's implementations differ in what they raise
        raise ModelFileError(
            f"{path}: not an ONNX file that onnxruntime can run (damaged); export or download it again."
        ) from error
    graphs = [model.graph, *model.functions]
    problem = next((found for graph in graphs for found in _problems(graph, path.parent)), None)
    if problem is not None:
        raise ModelFileError(f"{path}: {problem}; export or download it again.")


def _problems(graph: Any, folder: Path) -> Iterator[str]:
    """Of a graph or a function; protobuf has seen to it that graphs in graphs are not deep."""
    held = list(getattr(graph, "initializer", ()))
    for sparse in getattr(graph, "sparse_initializer", ()):
        held += [sparse.values, sparse.indices]
        if _count(sparse.dims) > _MADE:
            yield f"'{sparse.values.name}' is a sparse tensor of {_count(sparse.dims):,} numbers"
    shapes = {tensor.name: tensor for tensor in held}
    for node in graph.node:
        for attribute in node.attribute:
            tensors = [attribute.t] if attribute.HasField("t") else []
            held += [*tensors, *attribute.tensors]
            if node.op_type == "Constant" and node.output:
                shapes |= dict.fromkeys(node.output, *tensors) if tensors else {}
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _problems(inner, folder)
    for tensor in held:
        if problem := _problem_of(tensor, folder):
            yield f"tensor '{tensor.name}' {problem}"
    for node in graph.node:
        place = _MAKERS.get(node.op_type)
        if place is not None and place < len(node.input) and node.input[place] in shapes:
            made = _product(shapes[node.input[place]])
            if made > _MADE:
                yield f"its node '{node.name}' ({node.op_type}) makes a constant of {made:,} numbers"


def _problem_of(tensor: Any, folder: Path) -> str | None:
    if any(side < 0 for side in tensor.dims):
        return f"has the size {tuple(tensor.dims)}"
    bits = _bits(tensor.data_type)
    if bits is None:
        return None  # strings, and kinds that onnxruntime refuses
    needed = -(-_count(tensor.dims) * bits // 8)
    if tensor.data_location == 1 or tensor.external_data:
        return _problem_beside(tensor, needed, folder)
    typed = max(len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data), len(tensor.double_data))
    typed = max(typed, len(tensor.uint64_data)) * 8  # the most that each can stand for
    if needed > max(len(tensor.raw_data), typed):
        return f"says {tuple(tensor.dims)}, of which only a part is in the file"
    return None


def _problem_beside(tensor: Any, needed: int, folder: Path) -> str | None:
    """Of a tensor whose numbers are in another file."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    name = facts.get("location", "")
    file = folder / name
    try:
        inside = file.resolve().is_relative_to(folder.resolve())
        if not name or Path(name).is_absolute() or not inside:
            return f"names '{name}' for its numbers, which is not in the folder of the file"
        if not file.is_file():
            return f"has its numbers in {file}, which does not exist: keep the files together"
        start = int(facts.get("offset", 0))
        if start < 0 or start + needed > file.stat().st_size:
            return f"says {tuple(tensor.dims)}, of which only a part is in {file}"
    except (ValueError, OSError):
        return "says nothing usable of where its numbers are"
    return None


def _bits(kind: int) -> int | None:
    from onnx import TensorProto, helper

    if kind == TensorProto.STRING:
        return None
    try:
        size = helper.tensor_dtype_to_np_dtype(kind).itemsize * 8
    except Exception:  # unknown numbers
        return None
    names = TensorProto.DataType.Name(kind)
    return {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}.get(names, size)


def _count(dims: Any) -> int:
    return math.prod(dims)


def _product(shape: Any) -> int:
    """Of the numbers in a small integer tensor; 0 of any other."""
    from onnx import numpy_helper

    try:
        sides = numpy_helper.to_array(shape) if _count(shape.dims) <= 16 and not shape.external_data else ()
        return math.prod(max(int(side), 0) for side in sides)
    except Exception:  # told by whoever runs it
        return 0
