"""Model files: safetensors with a description inside, so that the file alone rebuilds the network.

The description is one JSON object under the metadata key `sr_engine`: {"format": 2, "folded": bool, "spec": {...}}.
It also stands among the weights, as a tensor of bytes called `sr_engine.description`, for programs that are handed the
tensors alone (`register_spandrel`); files of networks of other projects go without, to keep exactly their names.

Files of other programs are read too: `sr_engine.models.community`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sr_engine.atomic import atomic_write
from sr_engine.config import registry
from sr_engine.errors import EngineError, ModelFileError, did_you_mean
from sr_engine.layers.reparam import RepConv3x3, fold_reparam
from sr_engine.models.bounded import build_bounded
from sr_engine.models.community import TYPE, load_community
from sr_engine.models.community_files import check_weights, is_foreign
from sr_engine.models.onnx_network import ARCHITECTURE as ONNX
from sr_engine.models.onnx_network import is_onnx, load_onnx
from sr_engine.models.spec import HasSpec, ModelSpec, read_spec

FORMAT = 2  # 1 had no tensor of the description
DESCRIPTION = "sr_engine.description"
SHIPPED = Path(__file__).parents[1] / "weights"
RUN_FILE = "model.safetensors"
PROGRAMS = (".onnx", ".pt2")


@dataclass(frozen=True)
class ModelFile:
    """What is in a model file: the description, the weights on the CPU, and whether they are folded for inference."""

    path: Path
    spec: ModelSpec
    state: dict[str, Tensor]
    folded: bool


def available_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def build_model(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A new network of a registered architecture.

    Raises:
        ModelFileError: the architecture is unknown, or refuses the arguments.
    """
    try:
        return registry.build("network_g", architecture, **arguments)
    except (EngineError, TypeError) as error:
        raise ModelFileError(f"cannot build a network '{architecture}': {error}") from error


def save_model(
    path: str | Path,
    net: nn.Module,
    *,
    state: Mapping[str, Tensor] | None = None,
    training: Mapping[str, Any] | None = None,
    licence: str | None = None,
) -> None:
    """Write a network to `path`, whole or not at all.

    Args:
        net: a network with a `spec`.
        state: weights to write in place of the network's own, such as their average.
        training: provenance to record; replaces what `net.spec.training` says.
        licence: of the weights; replaces what `net.spec.licence` says.

    Raises:
        ModelFileError: the network has no spec, the weights are not its, or the file cannot be written.
    """
    path = Path(path)
    spec = getattr(net, "spec", None)
    if not isinstance(spec, ModelSpec):
        raise ModelFileError(
            f"cannot save a {type(net).__name__}: a model needs a `spec` (sr_engine.models.spec.ModelSpec)."
        )
    if spec.architecture == ONNX:
        raise ModelFileError("cannot save an ONNX file as a model: its weights are part of its program.")
    spec = replace(
        spec,
        training=spec.training if training is None else dict(training),
        licence=spec.licence if licence is None else licence,
    )
    own = net.state_dict()
    weights = own if state is None else dict(state)
    _match(path, own, weights)
    description = json.dumps({"format": FORMAT, "folded": not _is_reparameterised(net), "spec": asdict(spec)})
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    if spec.architecture != TYPE:
        tensors[DESCRIPTION] = torch.frombuffer(bytearray(description, "utf-8"), dtype=torch.uint8)
    try:
        with atomic_write(path) as temporary:
            # Not save_file: it writes to a file of its own beside this one, which a killed process leaves there.
            temporary.write_bytes(save(tensors, metadata={"sr_engine": description}))
    except (OSError, SafetensorError) as error:
        raise ModelFileError(
            f"{path}: the model cannot be written ({error}); an older file there is unchanged."
        ) from error


def load_model(name_or_path: str | Path, *, device: str | torch.device = "cpu", fold: bool = True) -> nn.Module:
    """A network from a model file, a run folder, or the name of a model that comes with the package; in eval mode.

    Files of weights of other programs (.pth, .pt, .ckpt, .safetensors) give a network too, if spandrel is installed
    and knows its architecture. ONNX files give an `OnnxNetwork`, without weights or gradients.

    Args:
        fold: merge the re-parameterised convolutions, for inference; False keeps the form that trains.

    Raises:
        ModelFileError: there is no such file or name, or the file is damaged, not ours or of a newer version.
    """
    path = find_model(name_or_path)
    if is_onnx(path):
        return load_onnx(path, device)
    if is_foreign(path):
        return load_community(path).eval().to(device)
    net = restored(read_model_file(path))
    if fold:
        fold_reparam(net)
    return net.eval().to(device)


def restored(file: ModelFile) -> nn.Module:
    """The network of a model file, in the form it was saved in.

    Raises:
        ModelFileError: the network cannot be built here, or the weights are not its.
    """
    try:
        asked = file.spec.arguments
        net = build_bounded(lambda: build_model(file.spec.architecture, asked), asked, file.state)
    except EngineError as error:
        raise ModelFileError(f"{file.path}: {str(error).removesuffix('.')}.") from error
    except Exception as error:  # what layers raise of sizes and types that they cannot have
        raise ModelFileError(
            f"{file.path}: the description in the file makes no network ({error!r}); save or download it again."
        ) from error
    if file.folded:
        fold_reparam(net)
    _match(file.path, net.state_dict(), file.state)
    net.load_state_dict(file.state)
    described = cast(HasSpec, net)
    described.spec = replace(described.spec, training=file.spec.training, licence=file.spec.licence)
    return net


def read_model_file(name_or_path: str | Path, *, key: str | None = None) -> ModelFile:
    """Description and weights of a model file; what `load_model` builds a network from.

    Args:
        key: in a file of another program, where the weights are (see `load_community`).

    Raises:
        ModelFileError: as `load_model`.
    """
    path = find_model(name_or_path)
    if path.suffix.lower() in PROGRAMS:
        raise ModelFileError(
            f"{path}: is an exported program, without weights that could be trained or changed; expected the model "
            "file that it was exported from."
        )
    if is_foreign(path):
        net = load_community(path, key)
        return ModelFile(path, net.spec, net.state_dict(), folded=True)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path}: not a complete safetensors file ({error}); save or download it again."
        ) from error
    if "sr_engine" not in metadata:
        raise ModelFileError(
            f"{path}: not a model file of sr-engine (it has no description); expected one that train wrote."
        )
    state.pop(DESCRIPTION, None)
    check_weights(path, state)
    return described_file(path, metadata["sr_engine"], state)


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model: itself, the one in a run folder, or the one that comes with the package under this name.

    Raises:
        ModelFileError: there is none.
    """
    path = Path(name_or_path)
    if path.is_dir():
        inside = path / RUN_FILE
        if not inside.is_file():
            raise ModelFileError(
                f"{path}: the folder has no {RUN_FILE}; expected a run folder of a run that has saved one."
            )
        return inside
    if path.is_file():
        return path
    names = available_models()
    if str(name_or_path) in names:
        return SHIPPED / f"{name_or_path}.safetensors"
    known = ", ".join(names) or "none yet"
    hint = did_you_mean(str(name_or_path), names)
    raise ModelFileError(f"model '{name_or_path}' is neither a file nor a name{hint}; names are: {known}.")


def described_file(path: Path, text: str, state: dict[str, Tensor]) -> ModelFile:
    """A model file from its description and its weights.

    Raises:
        ModelFileError: the description is damaged or of a newer version.
    """
    try:
        description = json.loads(text)
        if (number := description["format"]) > FORMAT:
            raise ModelFileError(
                f"{path}: the file has format {number}, this version reads {FORMAT}; update sr-engine."
            )
        return ModelFile(path, read_spec(description["spec"]), state, bool(description["folded"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"{path}: the description in the file is damaged ({error!r}); save or download it again."
        ) from error


def _is_reparameterised(net: nn.Module) -> bool:
    return any(isinstance(module, RepConv3x3) for module in net.modules())


def _match(path: Path, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Names and shapes of the weights are those of the network, or a ModelFileError names the first that is not."""
    for name in own.keys() | given.keys():
        expected, got = own.get(name), given.get(name)
        if expected is None or got is None or expected.shape != got.shape:
            shapes = [("nothing" if t is None else str(tuple(t.shape))) for t in (expected, got)]
            raise ModelFileError(
                f"{path}: weight '{name}' does not fit the network: expected {shapes[0]}, got {shapes[1]}."
            )
        if expected.is_floating_point() != got.is_floating_point():
            kinds = [str(t.dtype).removeprefix("torch.") for t in (expected, got)]
            raise ModelFileError(
                f"{path}: weight '{name}' does not fit the network: expected {kinds[0]}, got {kinds[1]}."
            )
