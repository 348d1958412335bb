"""A 3x3 convolution trained as three parallel ones and run as one.

The branches (3x3, 1x1, and 1x1 -> wider -> 3x3) are linear, so their sum is a single 3x3 kernel. It is collapsed from
the weights at every step (SESR, Bhardwaj et al. 2022, section 3.2): the wider parameterisation steers the optimiser,
while activations cost what a plain convolution costs. `collapsed` does that for all convolutions of a network at once:
one by one they are so small that launching their operations takes a GPU longer than computing them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RepConv3x3(nn.Module):
    """3x3 convolution, stride 1, zero padding: (B, cin, H, W) -> (B, cout, H, W).

    The inner 1x1 of the wide branch has no bias: it would become a border that no single kernel can express. An
    identity branch would only shift where the 1x1 branch starts, so there is none.

    Args:
        expand: width of the wide branch as a multiple of the larger of `cin` and `cout`.
        gain: standard deviation of the output for an input of unit variance.

    Attributes:
        ready: the kernel and bias to convolve with while inside `collapsed`, in the precision of autocast.
    """

    ready: tuple[Tensor, Tensor] | None = None

    def __init__(self, cin: int, cout: int, expand: int = 2, gain: float = 1.0):
        super().__init__()
        wide = expand * max(cin, cout)
        self.weight = nn.Parameter(torch.randn(cout, cin, 3, 3) * gain * (9 * cin) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(cout))
        self.pointwise = nn.Parameter(torch.zeros(cout, cin))
        # The product starts at a tenth of the 3x3 branch; both factors are of one size, so both learn from step one.
        factor = (0.1 * gain) ** 0.5 * (9 * cin * wide) ** -0.25
        self.squeeze = nn.Parameter(torch.randn(wide, cin) * factor)
        self.spread = nn.Parameter(torch.randn(cout, wide, 3, 3) * factor)

    def side_branches(self) -> Tensor:
        """The kernel (cout, cin, 3, 3) of all branches but the 3x3 one."""
        wide = torch.einsum("omhw,mi->oihw", self.spread, self.squeeze)
        return wide + F.pad(self.pointwise[:, :, None, None], (1, 1, 1, 1))

    def kernel(self) -> Tensor:
        """The collapsed kernel (cout, cin, 3, 3), computed in the precision of the parameters even under autocast."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return self.weight + self.side_branches()

    def forward(self, x: Tensor) -> Tensor:
        kernel, bias = self.ready or (self.kernel(), self.bias)
        return F.conv2d(x, kernel, bias, padding=1)

    @torch.no_grad()
    def absorb(self, weight: Tensor, bias: Tensor) -> None:
        """Become the plain convolution (weight, bias): the 3x3 branch takes what the others leave over."""
        self.weight.copy_(weight - self.side_branches())
        self.bias.copy_(bias)

    @torch.no_grad()
    def fold(self) -> nn.Conv2d:
        """The same function as a plain convolution."""
        cout, cin = self.weight.shape[:2]
        conv = nn.Conv2d(cin, cout, 3, padding=1, device=self.weight.device, dtype=self.weight.dtype)
        conv.weight.copy_(self.kernel())
        conv.bias.copy_(self.bias)  # pyright: ignore[reportOptionalMemberAccess]
        return conv.train(self.training).requires_grad_(self.weight.requires_grad)


@contextmanager
def collapsed(convs: Sequence[RepConv3x3]) -> Iterator[None]:
    """Collapse the kernels of `convs` together, all of one shape in one product, for the calls inside."""
    groups: dict[tuple[torch.Size, torch.Size], list[RepConv3x3]] = {}
    for conv in convs:
        groups.setdefault((conv.weight.shape, conv.spread.shape), []).append(conv)
    try:
        for group in groups.values():
            for conv, *ready in zip(group, *_collapse(group), strict=True):
                conv.ready = ready[0], ready[1]
        yield
    finally:
        for conv in convs:
            conv.ready = None


def _collapse(convs: Sequence[RepConv3x3]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Kernels and biases of convolutions of one shape.

    Everything stays in (cout, 3, 3, cin), how channels-last weights lie in memory: nothing is copied on the way to the
    convolution, nor is a gradient on its way back to its parameter.
    """
    device, count = convs[0].weight.device, len(convs)
    cout, wide = convs[0].spread.shape[:2]
    with torch.autocast(device.type, enabled=False):
        spread = torch.cat([conv.spread for conv in convs]).permute(0, 2, 3, 1).reshape(count, -1, wide)
        squeeze = torch.cat([conv.squeeze for conv in convs]).view(count, wide, -1)
        pointwise = F.pad(torch.cat([conv.pointwise for conv in convs])[:, None], (0, 0, 4, 4))
        weight = torch.cat([conv.weight for conv in convs]).permute(0, 2, 3, 1)
        plain = (weight.reshape(pointwise.shape) + pointwise).reshape(count, -1, pointwise.shape[-1])
        kernels = torch.baddbmm(plain, spread, squeeze).view(weight.shape).permute(0, 3, 1, 2)
        biases = torch.cat([conv.bias for conv in convs])
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
        kernels, biases = kernels.to(dtype), biases.to(dtype)
    return kernels.split(cout), biases.split(cout)


def fold_reparam(module: nn.Module) -> nn.Module:
    """Replace every RepConv3x3 in `module`, in place, by the equal plain convolution; returns the new `module`."""
    if isinstance(module, RepConv3x3):
        return module.fold()
    for name, child in module.named_children():
        setattr(module, name, fold_reparam(child))
    return module


def folded_parameters(module: nn.Module) -> int:
    """How many parameters `module` has once folded."""
    total = sum(p.numel() for p in module.parameters())
    for part in module.modules():
        if isinstance(part, RepConv3x3):
            total -= part.pointwise.numel() + part.squeeze.numel() + part.spread.numel()
    return total
