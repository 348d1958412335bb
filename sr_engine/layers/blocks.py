"""The stages of the generator's body: dense 3x3 blocks for small networks, large kernels and attention for others."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.layers.attention import WindowAttention
from sr_engine.layers.content import Content, FiLM
from sr_engine.layers.reparam import RepConv3x3
from sr_engine.layers.routing import numbers
from sr_kernels.dispatch import exporting


class RepBlock(nn.Module):
    """Three re-parameterised 3x3 convolutions and a gate without parameters: x, y -> y + 2 sigmoid(y) x.

    The gate is SPAN's (Wan et al. 2024), sigmoid(y) - 1/2 on the features themselves, plus the identity that lets
    the signal through unharmed while y is small.

    Args:
        width: channels.
        film: whether content modulates y.
        inner: channels between the convolutions; None = `width` twice.
    """

    def __init__(self, width: int, *, film: bool = False, inner: Sequence[int] | None = None):
        super().__init__()
        first, second = (width, width) if inner is None else inner
        sides = ((width, first, 1.4), (first, second, 1.4), (second, width, 0.5))
        self.convs = nn.ModuleList(RepConv3x3(cin, cout, gain=gain) for cin, cout, gain in sides)
        self.film = FiLM(width) if film else None

    def forward(self, x: Tensor, content: Content | None = None) -> Tensor:
        y = x
        for conv in self.convs[:-1]:
            y = F.relu(conv(y), inplace=True)
        y = self.convs[-1](y)
        if self.film is not None and content is not None:
            y = self.film(y, content)
            return torch.addcmul(y, x, torch.sigmoid(y), value=2)
        if exporting():  # without the number 2, onnxruntime keeps the layout of its convolutions
            product = x * torch.sigmoid(y)
            return y + product + product
        return y.addcmul_(x, torch.sigmoid(y), value=2)  # no gradient needs the convolution's own result


class MixUnit(nn.Module):
    """Large-kernel mixing of the first channels, then a gated feed-forward with a depthwise 3x3; residual.

    The kernel (k, k, size, size) is shared by all units of a network (ESC, Lee et al. 2025) and comes with each call.
    The gate is a sigmoid, so a unit grows linearly with its input and needs no normalisation.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.expand = nn.Conv2d(width, 2 * hidden, 1)
        self.spread = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.project = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor, kernel: Tensor | None) -> Tensor:
        y = x
        if kernel is not None:
            head, rest = x.split((len(kernel), x.shape[1] - len(kernel)), dim=1)
            head = head + F.conv2d(head, kernel, padding=kernel.shape[-1] // 2)
            y = torch.cat((head, rest), dim=1)
        return x + self.project(F.glu(self.spread(self.expand(y)), dim=1))


class MixStage(nn.Module):
    """FiLM, `units` large-kernel units, gated window attention and a 3x3 convolution; residual.

    Args:
        width: channels.
        units: large-kernel units.
        expansion: hidden channels of a unit as a multiple of `width`.
        window: side of the attention windows in pixels; 0 for no attention.
        heads: attention heads.
        film: whether content modulates the input of the stage.
        gate: whether the difficulty of a window scales its attention.
        hidden: of each unit, in place of `expansion`.
        head_dim: channels of a head; None = width / heads.
    """

    def __init__(
        self,
        width: int,
        *,
        units: int,
        expansion: float,
        window: int,
        heads: int,
        film: bool = False,
        gate: bool = False,
        hidden: Sequence[int] | None = None,
        head_dim: int | None = None,
    ):
        super().__init__()
        self.film = FiLM(width) if film else None
        channels = [int(width * expansion)] * units if hidden is None else hidden
        self.units = nn.ModuleList(MixUnit(width, count) for count in channels)
        self.attention = WindowAttention(width, heads, window, head_dim) if window else None
        self.gate = nn.Conv2d(2, 1, 1) if window and gate else None
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)  # pyright: ignore[reportArgumentType]
        self.conv = RepConv3x3(width, width, gain=0.5)

    def forward(
        self, x: Tensor, content: Content | None, kernel: Tensor | None, attend: float | Tensor = 1.0
    ) -> Tensor:
        """`attend`: the share of windows to attend to, those of the largest gates, or a mask (see `Route.chosen`)."""
        y = x
        if self.film is not None and content is not None:
            y = self.film(y, content)
        for unit in self.units:
            y = unit(y, kernel)
        if self.attention is not None:
            gate = None if content is None else self.window_gate(content.difficulty)
            windows = numbers(attend, gate)
            if windows is None or exporting() or len(windows) > 0:
                y = y + self.attention(y, gate, windows)
        return x + self.conv(y)

    def window_gate(self, difficulty: Tensor) -> Tensor | None:
        """Factor (B, 1, windows down, windows across) on attention, in 0..2, 1 when new; None without a gate.

        In full precision also under autocast: windows are ranked by it, and half precision would make equals of them.
        """
        if self.gate is None:
            return None
        with torch.autocast(difficulty.device.type, enabled=False):
            return 2 * torch.sigmoid(self.gate(difficulty.to(self.gate.weight.dtype)))
