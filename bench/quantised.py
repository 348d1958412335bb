"""A network in onnxruntime: exported, and quantised to INT8 with its own static quantisation (QDQ form).

Quantised are the convolutions that the network calls as modules (`formats.convolutions`), as elsewhere in this table:
weights per output channel and symmetric, inputs and outputs per tensor with ranges from calibration pictures, sums in
32-bit integers. What lies between them, the classical upsampler and the content statistics are computed in fp32.
"""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from bench.formats import Pixels, tensor
from sr_engine.models.spec import HasSpec


class Calibration(NamedTuple):
    """How the range of a tensor follows from the values seen; percentile: share in % that lies within it."""

    name: str
    method: CalibrationMethod
    percentile: float | None = None


CALIBRATIONS = (
    Calibration("MinMax", CalibrationMethod.MinMax),
    Calibration("Percentile 99.999", CalibrationMethod.Percentile, 99.999),
    Calibration("Percentile 99.99", CalibrationMethod.Percentile, 99.99),
    Calibration("Entropy", CalibrationMethod.Entropy),
)


class Session(nn.Module):
    """An ONNX file as a network (B, 3, H, W) -> (B, 3, H * scale, W * scale), on the CPU with torch's threads.

    Args:
        fused: whether onnxruntime may rewrite the graph: without, it computes what stands in the file step by step.
    """

    def __init__(self, file: Path, like: nn.Module, *, fused: bool = True) -> None:
        super().__init__()
        self.spec = cast(HasSpec, like).spec
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        if not fused:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        (self.given,) = self.session.get_inputs()

    def forward(self, x: Tensor) -> Tensor:
        array = x.contiguous().numpy()
        array = array.astype(np.float16) if "float16" in self.given.type else array
        (result,) = self.session.run(None, {self.given.name: array})
        return torch.from_numpy(np.asarray(result)).float()


class Reader(CalibrationDataReader):
    """Calibration pictures, one after the other."""

    def __init__(self, name: str, pictures: Sequence[Pixels]) -> None:
        self.inputs = iter([{name: tensor(picture).numpy()} for picture in pictures])

    def get_next(self) -> Any:
        return next(self.inputs, None)


def convolution_nodes(file: Path, weights: Sequence[Tensor]) -> list[str]:
    """Names of the nodes of a file that convolve with one of `weights`, in the order of the graph."""
    graph = onnx.load(file).graph
    wanted = {(tuple(weight.shape), weight.detach().contiguous().numpy().tobytes()) for weight in weights}
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv"
        and node.input[1] in arrays
        and (arrays[node.input[1]].shape, arrays[node.input[1]].tobytes()) in wanted
    ]


def quantise(
    source: Path,
    target: Path,
    pictures: Sequence[Pixels],
    nodes: Sequence[str],
    calibration: Calibration,
    *,
    symmetric: bool,
) -> Path:
    """Write `source` with the convolutions `nodes` in INT8 to `target`, and return that.

    Args:
        pictures: low-resolution ones to calibrate with.
        symmetric: activations in -128..127 around zero, else in 0..255 with a zero point.
    """
    options: dict[str, Any] = {"ActivationSymmetric": symmetric, "CalibTensorRangeSymmetric": symmetric}
    if calibration.percentile is not None:
        options["CalibPercentile"] = calibration.percentile
    name = onnx.load(source).graph.input[0].name
    with _quiet():
        quantize_static(
            source,
            target,
            Reader(name, pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=list(nodes),
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=calibration.method,
            extra_options=options,
        )
    return target


class Candidate(NamedTuple):
    """A quantised file and how it was made."""

    name: str
    calibration: Calibration
    symmetric: bool
    file: Path


def candidates(source: Path, folder: Path, pictures: Sequence[Pixels], nodes: Sequence[str]) -> Iterator[Candidate]:
    """Every calibration with both kinds of activations, as files in `folder`."""
    for number, calibration in enumerate(CALIBRATIONS):
        for symmetric in (False, True):
            target = folder / f"int8-{number}-{'symmetric' if symmetric else 'asymmetric'}.onnx"
            quantise(source, target, pictures, nodes, calibration, symmetric=symmetric)
            name = f"{calibration.name}, {'symmetric' if symmetric else 'asymmetric'} activations"
            yield Candidate(name, calibration, symmetric, target)


def integer_error(file: Path, like: nn.Module, picture: Pixels) -> float:
    """Root mean square, in levels of 255, by which a quantised file as it runs differs from the same file computed in
    fp32 with the same roundings. Far below 1 where this machine's integer kernels are sound: without VNNI sums may
    saturate."""
    x = tensor(picture)
    fused, plain = (Session(file, like, fused=fused)(x) for fused in (True, False))
    return 255 * (fused - plain).square().mean().sqrt().item()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the quantisation prints, and its advice to prepare a graph, which the export has already done."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
