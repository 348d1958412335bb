"""The convolutions of VGG19 (Simonyan and Zisserman 2015) and where their weights come from."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from sr_engine.errors import ModelFileError

WIDTHS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in [0,1]


def layer_names() -> list[str]:
    """conv1_1, conv1_2, conv2_1, ... conv5_4: block and number within it."""
    return [f"conv{block}_{i}" for block, widths in enumerate(WIDTHS, 1) for i in range(1, len(widths) + 1)]


class VGG19(nn.Module):
    """Outputs of chosen convolutions before their ReLU; frozen, and absent from state_dict.

    Args:
        layers: names out of `layer_names()`; what lies beyond the deepest isn't built.
        weights: state dict of torchvision's vgg19 as .safetensors or .pth; None lets torchvision download it.

    Raises:
        ModelFileError: no weights, or a file that doesn't hold them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Sequence[str], weights: str | None = None) -> None:
        super().__init__()
        names = layer_names()
        self.layers = tuple(layers)
        self.depth = 1 + max(names.index(layer) for layer in layers)
        source = weights or "torchvision's vgg19 weights"
        state = _download() if weights is None else _read(Path(weights))
        index, cin = 0, 3
        for name, cout in zip(names[: self.depth], [w for widths in WIDTHS for w in widths], strict=False):
            if _opens_block(name):
                index += 1  # torchvision counts the pooling layers, and the ReLU after each convolution
            for kind, shape in (("weight", (cout, cin, 3, 3)), ("bias", (cout,))):
                tensor = state.get(f"features.{index}.{kind}")
                if tensor is None or tensor.shape != shape:
                    found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
                    raise ModelFileError(
                        f"{source}: features.{index}.{kind} of shape {shape} expected, it is {found}; "
                        f"give the state dict of torchvision's vgg19."
                    )
                self.register_buffer(f"{name}_{kind}", tensor.float(), persistent=False)
            index, cin = index + 2, cout
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B,3,H,W) RGB in [0,1] -> layer -> (B,C,h,w); a picture too small for a pooling isn't pooled further."""
        x = (x - self.mean) / self.std
        features: dict[str, Tensor] = {}
        for name in layer_names()[: self.depth]:
            if _opens_block(name):
                x = F.max_pool2d(x, (min(2, x.shape[2]), min(2, x.shape[3])))
            x = F.conv2d(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"), padding=1)
            if name in self.layers:
                features[name] = x
            x = F.relu(x)  # never in place: features hold the tensor before it
        return features


def _opens_block(name: str) -> bool:
    return name.endswith("_1") and name != "conv1_1"


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelFileError(f"cannot read the VGG19 weights {path}: {str(error).splitlines()[0]}") from error


def _download() -> Mapping[str, Tensor]:
    remedy = "give `weights: FILE` (the state dict of torchvision's vgg19), or leave out the perceptual loss"
    try:
        # A torchvision built for another torch fails with RuntimeError when it registers its operators.
        from torchvision.models import VGG19_Weights  # pyright: ignore[reportMissingImports]  the zoo extra
    except (ImportError, RuntimeError) as error:
        raise ModelFileError(
            f"the perceptual loss needs VGG19 weights and torchvision is not there to download them "
            f"(pip install 'sr-engine[zoo]'): {remedy}."
        ) from error
    try:
        return VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network, no disk space; a wrong hash
        raise ModelFileError(f"torchvision could not download the VGG19 weights ({error}): {remedy}.") from error
