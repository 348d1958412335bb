"""`accelerate` and `restore`: the attention layers of a third-party network, swapped in place and put back."""

from collections.abc import Hashable
from typing import Any, TypeVar

import torch
from torch import nn

from sr_engine.dropin.families import FAMILIES
from sr_engine.dropin.fused import Fused, MaskOwner, NotExactError, has_hooks, is_active, swap, unswap
from sr_engine.dropin.report import Layer, Report
from sr_engine.dropin.sites import Site, sites
from sr_engine.dropin.verify import compare

Model = TypeVar("Model")


def accelerate(model: Model, *, verify: bool = True) -> tuple[Model, Report]:
    """Swap the attention layers of a network for fused ones that compute the same; in place.

    Weights, buffers, hooks, optimisers, `isinstance`, state_dict keys and their order stay. Each layer's bias index is
    compared with the kernel's rule, and each kind of layer is run beside the original on a copy with strong weights
    (seconds on a CPU); a layer that disagrees stays as it was.

    Args:
        model: an nn.Module, or what holds one as `.model` (spandrel's descriptors). Compile and export it afterwards.
        verify: whether to run each kind of layer beside its original; the index is compared in any case.

    Returns:
        The same object, and the report: what was swapped, what was not and why.

    Raises:
        TypeError: `model` is neither a module nor holds one.
    """
    network = module_of(model)
    if (note := _obstacle(network)) is not None:
        return model, Report(note=note)
    layers: list[Layer] = []
    compared: dict[Hashable, float | NotExactError] = {}
    owners: list[tuple[Site, type[Fused]]] = []
    for site in sites(network):
        adapter = None if isinstance(site.module, Fused) else _adapter(site.module)
        if adapter is not None and issubclass(adapter, MaskOwner):
            owners.append((site, adapter))
        elif adapter is not None:
            layers.append(_try(site, adapter, compared if verify else None))
    for site, adapter in owners:
        layers.append(_try(site, adapter, None))
    already = sum(isinstance(module, Fused) for module in network.modules()) - len(Report(tuple(layers)).swapped)
    note = f"{already} layers were swapped before." if already else None
    return model, Report(tuple(layers), note)


def restore(model: Model) -> Model:
    """Undo `accelerate`, in place: every module gets the class back that it had.

    Raises:
        TypeError: `model` is neither a module nor holds one.
    """
    for module in module_of(model).modules():
        if isinstance(module, Fused):
            unswap(module)
    return model


def module_of(model: Any) -> nn.Module:
    """The network itself: `model`, or its `.model`."""
    inner = model if isinstance(model, nn.Module) else getattr(model, "model", None)
    if not isinstance(inner, nn.Module):
        raise TypeError(
            f"expected a torch.nn.Module or an object with one as `.model`, got {type(model).__name__}; "
            "load the network first, for a file with spandrel.ModelLoader().load_from_file(path)."
        )
    return inner


def _adapter(module: nn.Module) -> type[Fused] | None:
    return next((family for family in FAMILIES if family.recognises(module)), None)


def _try(site: Site, adapter: type[Fused], compared: dict[Hashable, float | NotExactError] | None) -> Layer:
    """Check, compare and swap one layer; `compared` remembers the kinds of layers seen, None compares nothing."""
    kind, error = type(site.module).__name__, None
    try:
        _check_state(site, adapter)
        adapter.check(site)
        if compared is not None:
            error = _compare_once(site, adapter, compared)
    except NotExactError as failure:
        return Layer(site.name, kind, adapter.family, reason=str(failure))
    except Exception as failure:  # a layer that only looks like its family
        reason = f"it cannot be checked: {type(failure).__name__}: {failure}"
        return Layer(site.name, kind, adapter.family, reason=reason)
    swap(site.module, adapter)
    return Layer(site.name, kind, adapter.family, error)


def _compare_once(site: Site, adapter: type[Fused], compared: dict[Hashable, float | NotExactError]) -> float:
    key = (adapter, type(site.module), site.device, adapter.key(site))
    if key not in compared:
        try:
            compared[key] = compare(site, adapter)
        except NotExactError as failure:
            compared[key] = failure
    if isinstance(result := compared[key], NotExactError):
        raise result
    return result


def _check_state(site: Site, adapter: type[Fused]) -> None:
    """What no layer may have while it is swapped."""
    if "forward" in vars(site.module):
        raise NotExactError("its forward was replaced on the object")
    if shadowed := set(dir(adapter)) & {*site.module._modules, *site.module._parameters, *site.module._buffers}:
        raise NotExactError(f"its part '{min(shadowed)}' has a name that the swapped class needs")
    for name in adapter.dropouts:
        if is_active(site.module.get_submodule(name)):
            raise NotExactError(f"dropout is active in its attention ({name}); call .eval() or set its p to 0")
    for name in adapter.bypassed:
        if has_hooks(site.module.get_submodule(name)):
            raise NotExactError(f"its {name} has hooks, which a fused layer would not call")


def _obstacle(network: nn.Module) -> str | None:
    """Why the network as a whole must stay as it is, if anything."""
    if isinstance(network, torch.jit.ScriptModule):
        return "the model is scripted or traced; accelerate the nn.Module that it was made from."
    if hasattr(network, "_orig_mod"):
        return "the model is compiled; accelerate it first and compile it afterwards."
    for name, module in network.named_modules():
        if "quantized" in type(module).__module__ or getattr(module, "qconfig", None) is not None:
            return f"the model is quantised ('{name}' is a {type(module).__name__}); accelerate its float form."
    for name, parameter in network.named_parameters():
        if parameter.is_meta:
            return f"the model has no weights yet ('{name}' is on the device meta); load them first."
    return None
