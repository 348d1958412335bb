"""Weights of a file into a network of another project, name by name."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sr_engine.errors import ModelFileError
from sr_engine.models.community_arches import detect, loaded
from sr_engine.models.community_network import CommunityNetwork

# Buffers that follow from the arguments and the training size: never a reason to refuse a file.
_DERIVED = re.compile(r"(^|\.)(attn_mask\w*|\w*relative_position_index\w*|relative_coords_table|rpe_biases)$")


def match_weights(
    net: CommunityNetwork, given: Mapping[str, Tensor], path: Path, *, strict: bool
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """What of the weights of a file fits a network: the weights by the network's names, missing and unused names.

    Args:
        path: of the file, for messages.
        strict: whether anything missing or unused is an error.

    Raises:
        ModelFileError: nothing fits, or with `strict` something does not; the message lists the names.
    """
    own = net.state_dict()
    fitting = _fitting(own, given)
    if len(fitting) < len(own):
        given = max((given, _converted(given)), key=lambda state: len(_fitting(own, state)))
        fitting = _fitting(own, given)
    missing = [name for name in own if name not in fitting and not _DERIVED.search(name)]
    unused = [name for name in given if name not in fitting and not _DERIVED.search(name)]
    arch = net.spec.arguments["arch"]
    if not fitting or not any(name in fitting for name, _ in net.net.named_parameters()):
        raise ModelFileError(f"{path}: nothing in it fits the network ({arch}); train from scratch.")
    if strict and (missing or unused):
        raise ModelFileError(
            f"{path}: does not fit the network ({arch}): {_listed('missing', missing, own, given)}"
            f"{_listed('without a place', unused, own, given)}set strict_load_g: false to take what fits."
        )
    return fitting, missing, unused


def _fitting(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: given[name] for name, value in own.items() if name in given and given[name].shape == value.shape}


def _converted(given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The same weights under the names spandrel uses: some architectures have had several."""
    try:
        architecture = detect(given)
        return given if architecture is None else loaded(architecture, given).model.state_dict()
    except Exception:  # weights of another network: then by name alone
        return given


def _listed(what: str, names: list[str], own: Mapping[str, Tensor], given: Mapping[str, Tensor], most: int = 12) -> str:
    if not names:
        return ""
    shown = [f"{name}{_shapes(name, own, given)}" for name in names[:most]]
    return f"{len(names)} {what} ({', '.join(shown)}{', ...' if len(names) > most else ''}); "


def _shapes(name: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    if name in own and name in given:
        return f" {tuple(given[name].shape)} for {tuple(own[name].shape)}"
    return ""
