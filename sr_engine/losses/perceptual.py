"""Perceptual loss: the distance of VGG19 features (Johnson et al. 2016; layers and weights of Real-ESRGAN)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from sr_engine.config import registry
from sr_engine.errors import ConfigError, did_you_mean
from sr_engine.losses.inputs import LossInputs
from sr_engine.losses.pixel import Criterion, distance
from sr_engine.losses.vgg import VGG19, layer_names

REAL_ESRGAN = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}


@registry.register("loss", "perceptual")
class PerceptualLoss(nn.Module):
    """Weighted sum of the distances of VGG19 features before their ReLU.

    Args:
        layers: layer (conv1_1 ... conv5_4) -> weight; None is Real-ESRGAN's choice. What lies beyond the deepest layer
            costs nothing: up to conv5_4 there are 20 million weights, up to conv3_4 2.3 million.
        criterion: distance of two features, averaged in fp32; the network itself follows autocast.
        weights: file with the state dict of torchvision's vgg19 (.safetensors or .pth); None lets torchvision download
            it, for which the extra `zoo` must be installed.

    Raises:
        ConfigError: an unknown layer.
        ModelFileError: no weights, or a file that doesn't hold them.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, *, layers: dict[str, float] | None = None, criterion: Criterion = "l1", weights: str | None = None
    ) -> None:
        super().__init__()
        self.layers = dict(REAL_ESRGAN if layers is None else layers)
        for layer in self.layers:
            if layer not in layer_names():
                hint = did_you_mean(layer, layer_names())
                raise ConfigError(f"perceptual has no layer '{layer}'{hint}; known are {', '.join(layer_names())}.")
        if not self.layers:
            raise ConfigError("perceptual.layers is empty: give at least one layer with its weight.")
        self.criterion: Criterion = criterion
        self.vgg = VGG19(list(self.layers), weights)

    def forward(self, inputs: LossInputs) -> Tensor:
        with torch.no_grad():
            real = self.vgg(inputs.hr)
        fake = self.vgg(inputs.sr)
        terms = [weight * distance(fake[name], real[name], self.criterion) for name, weight in self.layers.items()]
        return torch.stack(terms).sum()
