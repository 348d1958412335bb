"""Feature matching: the generator's pictures shall look like the originals inside the discriminator."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sr_engine.config import registry
from sr_engine.errors import ConfigError, TrainingError, did_you_mean
from sr_engine.losses.inputs import LossInputs
from sr_engine.losses.pixel import Criterion, distance


@registry.register("loss", "feature_matching")
class FeatureMatchingLoss(nn.Module):
    """Mean distance of the discriminator's features on the output and on the original (pix2pixHD, eq. 3).

    Args:
        criterion: distance of two features, averaged over all their elements in fp32.
        layers: features by name, by index in the discriminator's order (negative from the end), or "all".
        layer_weights: one for each of `layers` in their order, or by name (1 for the others); the loss is the weighted
            mean over layers. With `layers: all` only the mapping is possible.
        normalize: divide both features of a layer by the mean magnitude of the real one, so that layers count alike
            whatever their scale.
        eps: of Charbonnier, in the unit of the features.

    The real features get no gradient. Where sizes differ, the real feature is resized to the fake one's.

    Raises:
        ConfigError: layers and weights don't fit together; from the call (or `resolve`): a layer that isn't there.
        TrainingError: features have different numbers of channels, or there is no discriminator.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"fake", "real"})

    def __init__(
        self,
        *,
        criterion: Criterion = "l1",
        layers: list[str | int] | Literal["all"] = "all",
        layer_weights: list[NonNegativeFloat] | dict[str, NonNegativeFloat] | None = None,
        normalize: bool = False,
        eps: PositiveFloat = 1e-3,
    ) -> None:
        super().__init__()
        if not layers:
            raise ConfigError("feature_matching.layers is empty: name at least one layer, or write all.")
        if isinstance(layer_weights, list) and (layers == "all" or len(layer_weights) != len(layers)):
            raise ConfigError(
                f"feature_matching.layer_weights has {len(layer_weights)} numbers, but layers is {layers}: "
                f"give one for each layer, or a mapping from layer to weight."
            )
        self.criterion: Criterion = criterion
        self.layers = layers
        self.layer_weights = layer_weights
        self.normalize = normalize
        self.eps = eps

    def forward(self, inputs: LossInputs) -> Tensor:
        fake, real = inputs.fake_features, inputs.real_features
        if fake is None or real is None:
            raise TrainingError("feature_matching needs a discriminator: add network_d to the configuration.")
        weights = self.resolve(list(fake))
        terms = [weight * self._layer(name, fake[name], real) for name, weight in weights.items()]
        return sum(terms[1:], terms[0]) / sum(weights.values())

    def resolve(self, names: Sequence[str]) -> dict[str, float]:
        """Layer -> weight, for a discriminator whose features are `names` in order of depth.

        Raises:
            ConfigError: a layer or weight for one that isn't among `names`, is listed twice, or weights sum to 0.
        """
        chosen = list(names) if self.layers == "all" else [_find(layer, names) for layer in self.layers]
        if twice := {name for name in chosen if chosen.count(name) > 1}:
            raise ConfigError(f"feature_matching.layers has {', '.join(sorted(twice))} twice: {self.layers}.")
        if isinstance(self.layer_weights, list):
            weights = dict(zip(chosen, self.layer_weights, strict=True))
        else:
            given = {_find(layer, names): weight for layer, weight in (self.layer_weights or {}).items()}
            if idle := [name for name in given if name not in chosen]:
                raise ConfigError(
                    f"feature_matching.layer_weights has {', '.join(idle)}, which isn't among its layers."
                )
            weights = {name: given.get(name, 1.0) for name in chosen}
        if sum(weights.values()) == 0:
            raise ConfigError("feature_matching.layer_weights are all 0: give at least one layer a weight.")
        return weights

    def _layer(self, name: str, fake: Tensor, real_features: Mapping[str, Tensor]) -> Tensor:
        fake, real = fake.float(), real_features[name].detach().float()
        if fake.shape[:2] != real.shape[:2] or fake.ndim != real.ndim:
            raise TrainingError(
                f"discriminator feature '{name}' is {tuple(fake.shape)} on the output but {tuple(real.shape)} on the "
                f"original: only heights and widths may differ."
            )
        if fake.shape != real.shape:
            real = F.interpolate(real, size=fake.shape[2:], mode="bilinear", antialias=True)
        if self.normalize:
            scale = real.abs().mean().clamp_min(1e-6)
            fake, real = fake / scale, real / scale
        return distance(fake, real, self.criterion, self.eps)


def _find(layer: str | int, names: Sequence[str]) -> str:
    if isinstance(layer, int) and -len(names) <= layer < len(names):
        return names[layer]
    if isinstance(layer, str) and layer in names:
        return layer
    known = ", ".join(f"{i}: {name}" for i, name in enumerate(names))
    hint = did_you_mean(layer, names) if isinstance(layer, str) else ""
    raise ConfigError(f"feature_matching has no layer {layer!r}{hint}; the discriminator's features are {known}.")
