"""Networks of other projects: the hidden channels of their MLPs, where one argument says how many there are.

Programs that load such a network read its arguments off the shapes of its weights, one `mlp_ratio` for all layers: all
layers keep equally many channels, each the ones that matter most to it. Heads are out of reach: these networks derive
the channels of a head as width / heads, so that with fewer heads the remaining ones would be cut anew.
"""

from typing import Any

from torch import nn

from sr_engine.compress.axis import Axis, Kept, Place
from sr_engine.errors import CompressError
from sr_engine.models.community_network import CommunityNetwork

KNOWN = ("SwinIR", "Swin2SR", "HAT")


def community_axes(net: CommunityNetwork) -> list[Axis]:
    """One axis for the MLP of each layer.

    Raises:
        CompressError: the architecture is none of KNOWN, or its MLPs are not all of one size.
    """
    arch = str(net.spec.arguments.get("arch"))
    if arch not in KNOWN:
        raise CompressError(
            f"{arch} cannot be pruned: what may be removed is known for type generator and, of networks of other "
            f"projects, for {', '.join(KNOWN)}."
        )
    found = [_axis(name, module) for name, module in net.net.named_modules() if _is_mlp(module)]
    if len({axis.size for axis in found}) != 1:
        raise CompressError(f"this {arch} cannot be pruned: its MLPs are not of one size.")
    return found


def community_arguments(net: CommunityNetwork, kept: Kept) -> dict[str, Any]:
    """The arguments that build the network with only the kept channels."""
    hidden = len(next(iter(kept.values())))
    return {**net.spec.arguments, "mlp_ratio": ratio_of(hidden, width_of(net))}


def width_of(net: CommunityNetwork) -> int:
    """Channels between the layers, which `mlp_ratio` is relative to."""
    return next(m.fc1.in_features for m in net.net.modules() if _is_mlp(m))  # pyright: ignore


def ratio_of(hidden: int, width: int) -> float:
    """The `mlp_ratio` that makes int(width * ratio) this number, as the classes and spandrel compute it."""
    return hidden / width


def expressible(hidden: int, width: int) -> bool:
    """Whether rounding leaves int(width * ratio) at this number."""
    return int(width * ratio_of(hidden, width)) == hidden


def _is_mlp(module: nn.Module) -> bool:
    return isinstance(getattr(module, "fc1", None), nn.Linear) and isinstance(getattr(module, "fc2", None), nn.Linear)


def _axis(name: str, mlp: nn.Module) -> Axis:
    places = (
        Place(f"{name}.fc1.weight", 0),
        Place(f"{name}.fc1.bias", 0),
        Place(f"{name}.fc2.weight", 1, reads=True),
    )
    return Axis(name, "mlp", mlp.fc1.out_features, places)  # pyright: ignore
