"""A network of another project behind the interface of ours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.models.spec import ModelSpec
from sr_kernels import functional as K
from sr_kernels.dispatch import exporting

# BT.601, full range: rows give Y, Cb - 1/2 and Cr - 1/2 of RGB.
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_FROM_YCC = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


@dataclass(frozen=True)
class SizeRule:
    """What sides a network accepts: at least `minimum`, multiples of `multiple_of`, equal if `square`."""

    minimum: int = 0
    multiple_of: int = 1
    square: bool = False

    def padding(self, height: int, width: int) -> tuple[int, int]:
        """Rows to add below and columns to add at the right."""
        # In exported graphs sides are symbols: `max` would decide, and quotients of negative numbers differ in ONNX.
        wanted = [cast(int, torch.sym_max(side, max(self.minimum, 1))) for side in (height, width)]
        sides = [(side + self.multiple_of - 1) // self.multiple_of * self.multiple_of for side in wanted]
        if self.square:
            sides = [cast(int, torch.sym_max(*sides))] * 2
        return sides[0] - height, sides[1] - width


class CommunityNetwork(nn.Module):
    """(B, 3, H, W) in 0..1 -> (B, 3, H * scale, W * scale), for any H, W >= 1; in eval mode clipped to 0..1.

    Its state_dict is that of the network inside, key by key, so that files and checkpoints stay readable for the
    programs it comes from. Sides the network refuses are extended by reflection, and by repeating the last pixel where
    the picture is too small for that; the result is cut back.

    Args:
        net: the network as its project defines it.
        spec: its description.
        channels: of the network itself. 1: it upscales the BT.601 luma, and chroma is resampled with Magic Kernel
            Sharp 2021. 4: it gets an opaque alpha channel, and its own alpha is dropped.
        sizes: what sides it accepts.
        call: how it is called, (net, x) -> y; None = `net(x)`.
        supports_bfloat16: whether it computes in bfloat16.
    """

    def __init__(
        self,
        net: nn.Module,
        spec: ModelSpec,
        *,
        channels: int = 3,
        sizes: SizeRule | None = None,
        call: Callable[[nn.Module, Tensor], Tensor] | None = None,
        supports_bfloat16: bool = True,
    ) -> None:
        super().__init__()
        self.net = net
        self.spec = spec
        self.scale = spec.scale
        self.channels = channels
        self.sizes = sizes or SizeRule()
        self.call = call
        self.supports_bfloat16 = supports_bfloat16

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != 3 or 0 in x.shape:
            raise ValueError(f"{self.spec.arguments['arch']}: x must be a non-empty (B, 3, H, W), got {tuple(x.shape)}")
        if self.channels == 1:
            y = self._by_luma(x)
        elif self.channels == 4:
            y = self._run(torch.cat([x, torch.ones_like(x[:, :1])], 1))[:, :3]
        else:
            y = self._run(x)
        return y if self.training else y.clamp(0, 1)

    @property
    def last_layer(self) -> Tensor:
        """The parameter whose gradient measures how strongly each loss pulls: of the last convolution."""
        convolutions = [m for m in self.net.modules() if isinstance(m, nn.Conv2d) and m.weight.requires_grad]
        return convolutions[-1].weight if convolutions else list(self.net.parameters())[-1]

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """The state of the network inside, under its own names."""
        return self.net.state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As `nn.Module.to`; a memory format is left alone where weights of five axes refuse it."""
        if any(parameter.dim() == 5 for parameter in self.parameters()):
            kwargs.pop("memory_format", None)
        return super().to(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in [name for name in state_dict if name.startswith(prefix)]:
            state_dict[f"{prefix}net.{name[len(prefix) :]}"] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _run(self, x: Tensor) -> Tensor:
        """The network itself on (B, channels, H, W), at a size it accepts."""
        height, width = x.shape[-2:]
        below, right = self.sizes.padding(height, width)
        x = _extended(x, below, right)
        x = x.clone()  # some networks scale their input in place
        y = self.net(x) if self.call is None else self.call(self.net, x)
        return y[..., : height * self.scale, : width * self.scale]

    def _by_luma(self, x: Tensor) -> Tensor:
        ycc = _mixed(x, _TO_YCC)
        chroma = K.magic_resample(ycc[:, 1:], scale=self.scale)
        return _mixed(torch.cat([self._run(ycc[:, :1]), chroma], 1), _FROM_YCC)


def _extended(x: Tensor, below: int, right: int) -> Tensor:
    """`x` with rows and columns added: reflected as far as there are any, then the last one repeated."""
    height, width = x.shape[-2:]
    if exporting():
        return _looked_up(_looked_up(x, 2, below), 3, right)
    reflected = min(right, width - 1), min(below, height - 1)
    if any(reflected):
        x = F.pad(x, (0, reflected[0], 0, reflected[1]), mode="reflect")
    rest = right - reflected[0], below - reflected[1]
    return F.pad(x, (0, rest[0], 0, rest[1]), mode="replicate") if any(rest) else x


def _looked_up(x: Tensor, dim: int, more: int) -> Tensor:
    """`_extended` along one axis by an index, which is the same graph for every size."""
    last = x.shape[dim] - 1
    steps = torch.arange(x.shape[dim] + more, device=x.device)
    return x.index_select(dim, (last - (steps - last).abs()).clamp_min(0))


def _mixed(x: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """Channels of (B, 3, H, W) through a matrix; element by element, so that autocast leaves its precision alone."""
    return torch.stack([sum(x[:, k] * row[k] for k in range(3)) for row in matrix], 1)  # pyright: ignore
