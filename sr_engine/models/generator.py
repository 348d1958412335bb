"""The generator: learned Magic Kernel(x) + residual, steered by what the picture looks like."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from typing import Annotated, Self, cast

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from sr_engine.config import registry
from sr_engine.errors import EngineError, did_you_mean
from sr_engine.layers.blocks import MixStage, RepBlock
from sr_engine.layers.content import Content, ContentAnalyzer
from sr_engine.layers.reparam import RepConv3x3, collapsed, fold_reparam, folded_parameters
from sr_engine.layers.routing import Route, hardest_mask
from sr_engine.layers.upsampler import MagicUpsampler
from sr_engine.models.layout import as_arguments, attends, check, is_aware, receptive_field, stage_heads
from sr_engine.models.presets import LAYOUTS, Layout, Preset, Routing, Scale
from sr_engine.models.spec import ModelSpec
from sr_kernels.dispatch import exporting


@registry.register("network_g", "generator")
class Generator(nn.Module):
    """Super-resolution network: (B, 3, H, W) in 0..1 -> (B, 3, H * scale, W * scale) in fp32, not clamped.

    Any input size from 1x1; the output add is in fp32, also under autocast. A new network equals its classical
    upsampler (Magic Kernel Sharp 2021; the identity at scale 1), since the last convolution starts at zero: it hears
    the full gradient in the first step and the body in the second. A merely small start would have to stay under 1e-5
    to keep that equality, and the body's first gradients, which Adam normalises, would be rounding noise.

    Args:
        scale: output side / input side.
        preset: layout by name; every other keyword replaces one of its values, None keeps it.
        width: channels of the body.
        stages: stages of the body; 0 for no body, only the learned upsampler.
        units: large-kernel units a stage; 0 makes a stage one block of three dense 3x3 convolutions instead.
        expansion: hidden channels of a unit as a multiple of `width`.
        kernel_size: side of the large kernel, odd.
        kernel_channels: channels the large kernel mixes; 0 for no large kernel.
        window: side of the attention windows in pixels; 0 for no attention.
        heads: attention heads; a list has one number a stage.
        steer: content sets the upsampler's gains for each pixel; otherwise they are learned once for all pixels.
        features: hidden channels between content and gains.
        reach: of the upsampler's stencils in pixels: 2 for 12 of 5x5, 3 for 24 of 7x7.
        film: content scales and shifts the features of each stage.
        gate: the difficulty of a window scales its attention.
        routing: `dense` attends to every window; `topk`, at inference alone, only to the hardest by their gates, which
            saves time. It needs a gate. Training is always dense. `set_routing` changes it later.
        share: of windows that `topk` keeps in each stage, rounded up to whole windows.
        inner: channels between the three dense convolutions, two numbers a stage; None = `width` everywhere. Such lists
            are what pruning leaves.
        hidden: hidden channels of the units, a list for each stage with one number a unit; None = `expansion` says it.
        head_dim: channels of an attention head; None = `width` / `heads`.

    Raises:
        EngineError: a value out of its range; the message names it.
    """

    collapses_at_once = True  # re-parameterised kernels in training; else each where it is used

    def __init__(
        self,
        *,
        scale: Scale,
        preset: Preset = "tiny",
        width: PositiveInt | None = None,
        stages: NonNegativeInt | None = None,
        units: NonNegativeInt | None = None,
        expansion: PositiveFloat | None = None,
        kernel_size: PositiveInt | None = None,
        kernel_channels: NonNegativeInt | None = None,
        window: NonNegativeInt | None = None,
        heads: PositiveInt | list[PositiveInt] | None = None,
        steer: bool | None = None,
        features: PositiveInt | None = None,
        reach: PositiveInt | None = None,
        film: bool | None = None,
        gate: bool | None = None,
        routing: Routing | None = None,
        share: Annotated[float, Field(gt=0, le=1)] | None = None,
        inner: list[list[PositiveInt]] | None = None,
        hidden: list[list[PositiveInt]] | None = None,
        head_dim: PositiveInt | None = None,
    ):
        super().__init__()
        given = {k: v for k, v in locals().items() if k in _LAYOUT_KEYS and v is not None}
        if preset not in LAYOUTS:
            hint = did_you_mean(preset, LAYOUTS)
            raise EngineError(f"generator: preset '{preset}' is unknown{hint}; known are: {', '.join(LAYOUTS)}.")
        layout = replace(LAYOUTS[preset], **given)
        check(scale, layout)
        self.scale = scale
        self.layout = layout
        self.analyzer = None
        if is_aware(layout):
            modulates = layout.film and layout.stages > 0
            self.analyzer = ContentAnalyzer(layout.window or 8, fine=layout.steer, coarse=modulates)
        self.upsampler = MagicUpsampler(scale, layout.features if layout.steer else 0, layout.reach)
        self.body = nn.ModuleList(_stage(layout, index) for index in range(layout.stages))
        self.large_kernel: nn.Parameter | None = None
        if layout.stages:
            self.stem = nn.Conv2d(3, layout.width, 3, padding=1)
            if layout.units and layout.kernel_channels:
                k, size = layout.kernel_channels, layout.kernel_size
                self.large_kernel = nn.Parameter(torch.randn(k, k, size, size) * 0.5 / math.sqrt(k * size * size))
            self.tail = nn.Conv2d(layout.width, 3 * scale * scale, 3, padding=1)
            for parameter in self.tail.parameters():
                nn.init.zeros_(parameter)
        self.spec = ModelSpec(
            architecture="generator",
            arguments={"scale": scale, "preset": preset, **as_arguments(layout)},
            scale=scale,
            size_multiple=math.lcm(2 if self.analyzer is not None else 1, layout.window if attends(layout) else 1),
            receptive_field=receptive_field(layout),
            parameters=folded_parameters(self),
        )

    def forward(self, x: Tensor, *, attend: float | Sequence[Tensor] | None = None, sharpness: float = 1.0) -> Tensor:
        """Upscale; the keywords are for inference.

        Args:
            attend: a share of windows, or one mask a stage with attention (`Route.chosen`), such as a tile's part of
                what `routes` says of the whole picture. None = as `set_routing` says. In training mode always all.
            sharpness: of the upsampler, 0..2; 1 = as learned (see `MagicUpsampler`).
        """
        _check_picture(x)
        content = None if self.analyzer is None else self.analyzer(x)
        base = self.upsampler(x, content, sharpness)
        if not self.body:
            return base
        # A compiler fuses the collapsing by itself; at inference the kernels are folded.
        together = self.training and self.collapses_at_once and not torch.compiler.is_compiling()
        with collapsed(self._reparameterised()) if together else nullcontext():
            return _plus_shuffled(base, self._residual(x, content, attend), self.scale)

    def _reparameterised(self) -> list[RepConv3x3]:
        convs = (
            conv for stage in self.body for conv in (stage.convs if isinstance(stage, RepBlock) else (stage.conv,))
        )
        return [conv for conv in convs if isinstance(conv, RepConv3x3)]

    def _residual(self, x: Tensor, content: Content | None, attend: float | Sequence[Tensor] | None) -> Tensor:
        # Zero padding then stands for mid-grey. Channels last is the layout the convolutions are fastest in.
        stem = self.stem((x - 0.5).to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last))
        y = stem
        for stage, part in zip(self.body, self._parts(attend), strict=True):
            y = stage(y, content) if isinstance(stage, RepBlock) else stage(y, content, self.large_kernel, part)
        return self.tail(y + stem)

    def _parts(self, attend: float | Sequence[Tensor] | None) -> Sequence[float | Tensor]:
        """What each stage attends to: a share of its windows or a mask."""
        if self.training or not attends(self.layout):
            return [1.0] * len(self.body)
        if isinstance(attend, Sequence):
            return attend
        return [self._share(attend)] * len(self.body)

    def _share(self, share: float | None) -> float:
        if share is None:
            return self.attention_share
        self.check_share(share)
        return share

    def check_share(self, share: float) -> None:
        """Whether this share of windows can get attention at inference.

        Raises:
            EngineError: it is out of (0, 1], or below 1 for a network without gates.
        """
        if share != 1:
            check(self.scale, replace(self.layout, routing="topk", share=share))

    @property
    def attention_share(self) -> float:
        """Share of windows that get attention at inference, unless a call says otherwise; 1 = all."""
        return self.layout.share if self.layout.routing == "topk" else 1.0

    def set_routing(self, routing: Routing, share: float | None = None) -> Self:
        """Change `routing` and, if given, `share` (see the class), here and in what a saved file says.

        Raises:
            EngineError: a share out of its range, or `topk` for a network without gates.
        """
        layout = replace(self.layout, routing=routing, share=self.layout.share if share is None else share)
        check(self.scale, layout)
        self.layout = layout
        self.spec = replace(self.spec, arguments={**self.spec.arguments, **as_arguments(layout)})
        return self

    def routes(self, x: Tensor, share: float | None = None) -> list[Route]:
        """Gate and choice of every stage with attention for a picture (B, 3, H, W), from its content alone.

        Args:
            share: of windows to choose; None = `attention_share`.

        Raises:
            EngineError: a share out of (0, 1], or below 1 for a network without gates.
        """
        return self.choose(self.difficulty(x), share)

    def difficulty(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 2, windows down, windows across): all that `choose` needs to know of a picture.

        A part of a picture that begins at a multiple of the window gives what the whole gives, except for windows
        within STATISTICS_REACH pixels of a cut; so a large picture can be measured in parts.
        """
        _check_picture(x)
        return (self.analyzer or ContentAnalyzer(self.layout.window or 8))(x).difficulty

    def choose(self, difficulty: Tensor, share: float | None = None) -> list[Route]:
        """`routes` of the picture that has this difficulty."""
        share = self._share(share)
        routes: list[Route] = []
        for stage in self.body:
            if isinstance(stage, MixStage) and stage.attention is not None:
                gate = stage.window_gate(difficulty)
                gate = torch.ones_like(difficulty[:, :1]) if gate is None else gate
                routes.append(Route(gate, hardest_mask(gate, share)))
        return routes

    @property
    def last_layer(self) -> nn.Parameter:
        """The parameter whose gradient measures how strongly each loss pulls."""
        if self.body:
            return cast(nn.Parameter, self.tail.weight)
        return self.upsampler.level

    def fold(self) -> Self:
        """Replace the re-parameterised convolutions by the equal plain ones, in place; for inference."""
        fold_reparam(self)
        return self


@registry.register("network_g", "resampler")
def resampler(
    *,
    scale: Scale,
    steer: bool | None = None,
    features: PositiveInt | None = None,
    reach: PositiveInt | None = None,
) -> Generator:
    """The learned upsampler without a network: `Generator` with the preset of that name and the same keywords."""
    return Generator(scale=scale, preset="resampler", steer=steer, features=features, reach=reach)


_LAYOUT_KEYS = frozenset(f.name for f in fields(Layout))


def _check_picture(x: Tensor) -> None:
    if x.dim() != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise ValueError(f"generator: x must be a non-empty (B, 3, H, W), got {tuple(x.shape)}")


def _plus_shuffled(base: Tensor, y: Tensor, scale: int) -> Tensor:
    """base + F.pixel_shuffle(y, scale), reading y where it lies: half the time of shuffling it into memory first.

    onnxruntime has an operator for the shuffle and takes three times as long for the permutation.
    """
    if exporting():
        return base + F.pixel_shuffle(y, scale)
    batch, channels, height, width = base.shape
    blocks = y.unflatten(1, (channels, scale, scale)).permute(0, 1, 4, 2, 5, 3)  # (B, C, h, scale, w, scale)
    return (base.view(batch, channels, height // scale, scale, width // scale, scale) + blocks).view_as(base)


def _stage(layout: Layout, index: int) -> nn.Module:
    if not layout.units:
        return RepBlock(layout.width, film=layout.film, inner=layout.inner[index] if layout.inner else None)
    return MixStage(
        layout.width,
        units=layout.units,
        expansion=layout.expansion,
        window=layout.window,
        heads=stage_heads(layout)[index],
        film=layout.film,
        gate=layout.gate,
        hidden=layout.hidden[index] if layout.hidden else None,
        head_dim=layout.head_dim,
    )
