"""`sr-engine info`: what is installed here and what the engine would use."""

import argparse
import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterable, Iterator

HELP = "show versions, the device, which implementation each operation uses and why, and the models there are"

PACKAGES = ("sr-engine", "torch", "triton", "numpy", "pillow", "safetensors", "onnx")
EXTRAS = {"zoo": ("spandrel", "spandrel_extra_arches", "timm", "torchvision"), "test": ("pytest", "ruff", "pyright")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="device to describe")
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="describe this model instead: a name, run folder or file, another project's too",
    )


def run(args: argparse.Namespace) -> int:
    """Print the lines."""
    sections = {"model": _model(args.model)} if args.model is not None else _here(args.device)
    for title, rows in sections.items():
        print(title)
        for name, text in rows:
            print(f"  {name:18} {text}")
    return 0


def _here(device: str) -> dict[str, Iterable[tuple[str, str]]]:
    return {
        "versions": [("python", platform.python_version()), *_versions()],
        "device": _device(device),
        "operations": _operations(device),
        "onnxruntime": _onnxruntime(),
        "models": _models(),
        "extras": _extras(),
    }


def _model(name: str) -> Iterator[tuple[str, str]]:
    """What a model file says of itself, or for one of another project what its weights show."""
    from sr_engine.cli.registrations import load_all
    from sr_engine.infer.tiling import describe_overlap
    from sr_engine.models.card import score_rows, training_rows
    from sr_engine.models.files import find_model, read_model_file
    from sr_engine.models.onnx_network import is_onnx, load_onnx

    load_all()
    path = find_model(name)
    spec = load_onnx(path).spec if is_onnx(path) else read_model_file(path).spec
    yield "file", str(path)
    yield "type", spec.architecture
    for key, value in spec.arguments.items():
        yield f"  {key}", str(value)
    yield "scale", str(spec.scale)
    yield "weights", f"{spec.parameters:,}"
    yield "tile origins", f"multiples of {spec.size_multiple} pixels"
    yield "tile overlap", describe_overlap(spec)
    yield "licence", spec.licence
    yield from training_rows(spec)
    yield from score_rows(spec)


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        yield package, _version(package) or "not installed"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(name: str) -> Iterator[tuple[str, str]]:
    import torch

    from sr_engine.device import pick_device, pick_precision

    device = pick_device(name)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        yield str(device), f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    else:
        yield str(device), f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    precision = "bf16" if pick_precision("auto", device) == torch.bfloat16 else "fp32"
    yield "precision auto", precision


def _operations(device: str) -> Iterator[tuple[str, str]]:
    from sr_engine.device import pick_device
    from sr_kernels import dispatch

    yield from dispatch.explain(pick_device(device)).items()


def _onnxruntime() -> Iterator[tuple[str, str]]:
    if importlib.util.find_spec("onnxruntime") is None:
        yield "", "not installed"
        return
    import onnxruntime

    yield onnxruntime.__version__, ", ".join(onnxruntime.get_available_providers())


def _models() -> Iterator[tuple[str, str]]:
    from sr_engine.cli.registrations import load_all
    from sr_engine.config import registry
    from sr_engine.infer.classical import CLASSICAL
    from sr_engine.models.files import available_models

    load_all()
    yield "trained", ", ".join(available_models()) or "none comes with this version: train one with `sr-engine train`"
    yield "classical", ", ".join(CLASSICAL)
    yield "architectures", ", ".join(registry.names("network_g"))


def _extras() -> Iterator[tuple[str, str]]:
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if _version(package) is None]
        yield extra, f"missing {', '.join(missing)}" if missing else "installed"
