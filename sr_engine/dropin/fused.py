"""The class swap: a third-party module keeps its identity, weights and hooks, and gets another forward.

`module.__class__` becomes a subclass of what it was, so parameters, buffers, hooks, optimisers, `isinstance` and the
state_dict survive, and putting the class back undoes everything. Nothing is stored on the module.
"""

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any, ClassVar

from torch import nn

from sr_engine.dropin.sites import Site


class NotExactError(Exception):
    """Why a layer that looks familiar must stay as it is; the text goes into the report."""


class Fused:
    """Base of every family's class: what a layer must look like, and its faster forward.

    A family defines `recognises`, `check`, `trials` and `fused`. `fused` has the arguments of the original's forward
    and `self` is the original module, so it reads the original's parameters and calls its submodules.

    Attributes:
        family: name for the report.
        bypassed: submodules (dotted) whose forward `fused` does without. Where one of them has hooks, the original
            forward runs, so that the hooks see what they always saw.
        dropouts: dropout modules (dotted) on the attention weights. While one of them is active, the original runs.
    """

    family: ClassVar[str]
    bypassed: ClassVar[tuple[str, ...]] = ()
    dropouts: ClassVar[tuple[str, ...]] = ()
    original: ClassVar[type[nn.Module]]  # set on the class that `fused_class` makes
    adapter: ClassVar[type["Fused"]]

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """Whether the module is built like this family's: names and kinds of its parts. Cheap, and never raises."""
        raise NotImplementedError

    @classmethod
    def check(cls, site: Site) -> None:
        """Compare what the kernel will compute by rule with the layer's own buffers.

        Raises:
            NotExactError: they differ, or the kernel cannot serve the layer.
        """
        raise NotImplementedError

    @classmethod
    def key(cls, site: Site) -> Hashable:
        """What makes two layers of one class differ in more than their weights; each key is compared once."""
        raise NotImplementedError

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        """Arguments of forward for the comparison with the original: float32, on the module's device.

        One on a map of 2x3 windows, and where the layer pads by itself one of a size that is no multiple.
        """
        raise NotImplementedError

    @classmethod
    def excite(cls, module: Any) -> None:
        """Change the weights of a copy so that a wrong bias or mask shows: tables of standard deviation >= 1, logits
        of order 5. Called on a copy whose weights are random already (see verify.randomise)."""

    def original_arguments(self, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments for the original forward: where a `MaskOwner` left out a mask, the layer builds it here."""
        return args, kwargs

    def fused(self, *args: Any, **kwargs: Any) -> Any:
        """The faster forward."""
        raise NotImplementedError

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """`fused`, or the original where only that is right: see `bypassed` and `dropouts`."""
        if original_needed(self):
            args, kwargs = self.original_arguments(*args, **kwargs)
            return self.original.forward(self, *args, **kwargs)  # type: ignore[arg-type]
        return self.fused(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """The class is made at run time, so a pickle names what it is made from."""
        return _blank, (type(self).adapter, type(self).original), self.__dict__


class MaskOwner(Fused):
    """Base for the network that builds masks and hands them to its layers, which need none any more.

    It is swapped when all `consumers` below it are, and needs no comparison: its masks are only left out. What is
    handed on is an empty tensor, so a layer that would use it fails loudly.
    """

    consumers: ClassVar[tuple[type[Fused], ...]]

    @classmethod
    def check(cls, site: Site) -> None:
        """Nothing but that everybody who reads the masks is fused."""
        for name, module in site.module.named_modules():
            if not isinstance(module, Fused) and any(c.recognises(module) for c in cls.consumers):
                raise NotExactError(f"{name} still reads its masks")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.original.forward(self, *args, **kwargs)  # type: ignore[arg-type]


def original_needed(module: Any) -> bool:
    """Whether only the original forward does what is asked for now."""
    return any(has_hooks(module.get_submodule(name)) for name in module.bypassed) or any(
        is_active(module.get_submodule(name)) for name in module.dropouts
    )


def has_hooks(module: Any) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def is_active(dropout: Any) -> bool:
    return dropout.training and getattr(dropout, "p", 0.0) > 0


@cache
def fused_class(adapter: type[Fused], original: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `original` with the forward of `adapter`; one for each pair."""
    members = {"adapter": adapter, "original": original, "__module__": adapter.__module__, "__doc__": adapter.__doc__}
    bases = (adapter, original)
    if not _first_base(original).__dictoffset__:
        # Below it lies a class without a __dict__, as ABC (GRL): to Python the layout of instances is the same only if
        # `original` is the first base. The adapter's members then have to stand in the class itself to come first.
        bases, members = (original, adapter), _members(adapter) | members
    return type(f"Fused{original.__name__}", bases, members)


def _first_base(cls: type) -> type:
    """The class right above object on the way of first bases."""
    return cls if cls.__base__ in (object, None) else _first_base(cls.__base__)


def _members(adapter: type[Fused]) -> dict[str, Any]:
    """All that the adapter defines or inherits."""
    found = {name: value for cls in reversed(adapter.__mro__[:-1]) for name, value in vars(cls).items()}
    return {name: value for name, value in found.items() if not name.startswith("__") or name == "__reduce_ex__"}


def swap(module: nn.Module, adapter: type[Fused]) -> None:
    """Give the module the forward of `adapter`, in place."""
    module.__class__ = fused_class(adapter, type(module))


def unswap(module: nn.Module) -> None:
    """Undo `swap`."""
    module.__class__ = type(module).original  # type: ignore[attr-defined]


def _blank(adapter: type[Fused], original: type[nn.Module]) -> nn.Module:
    made = fused_class(adapter, original)
    return made.__new__(made)
