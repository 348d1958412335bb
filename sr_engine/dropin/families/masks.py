"""Attention masks that a network or a block builds: compared with the kernel's rule, and left out."""

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads, expect_index, expect_mask, has
from sr_engine.dropin.fused import MaskOwner, NotExactError
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


def expect_own_masks(block: Any, native: K.Windows, other: K.Windows) -> None:
    """A block of SwinIR's kind masks as these windows say.

    On its native map by a buffer, which came with the weights; on maps of other sizes by what it builds. What is the
    same for all keys of a query is no mask.
    """
    if block.shift_size:
        expect(isinstance(block.attn_mask, Tensor), "it is shifted but has no mask")
        size = two_by_three(block)
        sized = ((native, block.attn_mask, block.input_resolution), (other, built_mask(block, size), size))
        for windows, mask, (height, width) in sized:
            expect_mask(windows, mask - mask.amax(-1, keepdim=True), height, width)


def two_by_three(block: Any) -> tuple[int, int]:
    """The size of a map of 2x3 windows."""
    return 2 * block.window_size, 3 * block.window_size


def network_of(site: Site, index: str) -> Any:
    """The network around a layer, which holds the bias index by this name and builds the mask of all layers."""
    network = site.owner(index)
    expect(callable(getattr(network, "calculate_mask", None)), f"no network around it has {index} and calculate_mask")
    return network


def expect_shared_rule(site: Site, index: str, attn: Any) -> None:
    """A layer whose attention `attn` reads the bias index and the mask of the network around it."""
    layer, network = site.module, network_of(site, index)
    windows = K.Windows(layer.window_size, layer.shift_size)
    expect_heads(attn.dim, attn.num_heads)
    expect_index(windows, getattr(network, index), len(attn.relative_position_bias_table))
    if layer.shift_size:  # an unshifted one reads no mask
        size = two_by_three(layer)
        expect_mask(windows, network_mask(network, size, site.device), *size)


def network_mask(network: Any, size: tuple[int, int], device: torch.device) -> Tensor:
    """The mask (windows, Nq, Nk) float32 that a network hands to its layers on a map of this size."""
    takes_dtype = "dtype" in inspect.signature(network.calculate_mask).parameters
    return built_mask(network, size, *([torch.float32] if takes_dtype else [])).to(device)


def built_mask(module: Any, *args: Any) -> Tensor:
    """What its `calculate_mask` returns."""
    try:
        mask = module.calculate_mask(*args)
    except Exception as error:  # whatever third-party code raises, the layer stays as it is
        raise NotExactError(f"its mask cannot be built: {type(error).__name__}: {error}") from error
    expect(isinstance(mask, Tensor), f"its mask is a {type(mask).__name__}")
    return mask


def left_out(mask: Any) -> bool:
    """Whether a `NetworkMasks` left this mask out."""
    return isinstance(mask, Tensor) and mask.numel() == 0


class NetworkMasks(MaskOwner):
    """A network that builds one mask a forward and hands it to all its shifted layers."""

    indices: ClassVar[tuple[str, ...]]

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, layers=nn.ModuleList, **dict.fromkeys(cls.indices, Tensor))
            and callable(getattr(module, "calculate_mask", None))
            and any(consumer.recognises(inner) for consumer in cls.consumers for inner in module.modules())
        )

    def calculate_mask(self, *_: Any, **__: Any) -> Tensor:
        return torch.empty(0)
