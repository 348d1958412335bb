"""The dependency groups of the generator: which entries of which weights belong to one channel or head."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from torch import nn

from sr_engine.compress.axis import Axis, Kept, Place
from sr_engine.layers.blocks import MixStage, MixUnit, RepBlock
from sr_engine.layers.reparam import RepConv3x3
from sr_engine.models.generator import Generator
from sr_engine.models.layout import as_arguments, stage_heads


def generator_axes(net: Generator) -> list[Axis]:
    """Inner axes of every stage, then the residual width; none for a network without stages."""
    if not net.body:
        return []
    axes = [axis for index, stage in enumerate(net.body) for axis in _stage(f"body.{index}", stage)]
    return [*axes, _width(net)]


def generator_arguments(net: Generator, kept: Kept) -> dict[str, Any]:
    """The arguments that build the network with only the kept indices."""
    sizes = {name: len(indices) for name, indices in kept.items()}
    width, layout = sizes["width"], net.layout
    stages = range(layout.stages)
    changed: dict[str, Any] = {
        "width": width,
        "kernel_channels": sum(index < layout.kernel_channels for index in kept["width"]),
    }
    if not layout.units:
        inner = [[sizes[f"body.{i}.inner{k}"] for k in range(2)] for i in stages]
        changed["inner"] = None if all(row == [width, width] for row in inner) else inner
    else:
        hidden = [[sizes[f"body.{i}.units.{k}.hidden"] for k in range(layout.units)] for i in stages]
        even = [int(width * layout.expansion)] * layout.units
        changed["hidden"] = None if all(row == even for row in hidden) else hidden
    if layout.units and layout.window:
        heads = [sizes[f"body.{i}.heads"] for i in stages]
        changed["heads"] = heads[0] if len(set(heads)) == 1 else heads
        dim = layout.head_dim or layout.width // stage_heads(layout)[0]
        changed["head_dim"] = None if set(heads) == {width / dim} else dim
    given = {**net.spec.arguments, **as_arguments(replace(layout, **changed))}
    return {name: value for name, value in given.items() if changed.get(name, value) is not None}


def _stage(name: str, stage: nn.Module) -> Iterator[Axis]:
    if isinstance(stage, RepBlock):
        first, second, third = stage.convs
        for k, (writer, reader) in enumerate(((first, second), (second, third))):
            places = (*_written(f"{name}.convs.{k}", writer), *_read(f"{name}.convs.{k + 1}", reader))
            yield Axis(f"{name}.inner{k}", "inner", len(cast(nn.Parameter, writer.weight)), places)
        return
    mix = cast(MixStage, stage)
    for k, unit in enumerate(mix.units):
        yield _hidden(f"{name}.units.{k}", cast(nn.Conv2d, unit.project).in_channels)
    if mix.attention is not None:
        heads = mix.attention.heads
        yield _heads(f"{name}.attention", f"{name}.heads", heads, mix.attention.project.in_features // heads)


def _hidden(name: str, size: int) -> Axis:
    """The gated half of a unit: value i and its gate hidden + i go together (F.glu)."""
    halves = (0, size)
    layers = ("expand.weight", "expand.bias", "spread.weight", "spread.bias")
    places = [Place(f"{name}.{layer}", 0, halves) for layer in layers]
    return Axis(f"{name}.hidden", "hidden", size, (*places, Place(f"{name}.project.weight", 1, reads=True)))


def _heads(layer: str, name: str, heads: int, dim: int) -> Axis:
    """The packed map holds all heads' q, then all k, then all v."""
    packed = (0, heads * dim, 2 * heads * dim)
    places = (
        Place(f"{layer}.qkv.weight", 0, packed, dim),
        Place(f"{layer}.qkv.bias", 0, packed, dim),
        Place(f"{layer}.bias_table", 1),
        Place(f"{layer}.project.weight", 1, span=dim, reads=True),
    )
    return Axis(name, "heads", heads, places)


def _width(net: Generator) -> Axis:
    """The residual stream: whatever adds to it, modulates it or reads it."""
    layout = net.layout
    places = [*_written("stem", net.stem)]
    for index, stage in enumerate(net.body):
        name = f"body.{index}"
        if (film := cast(RepBlock | MixStage, stage).film) is not None:
            places += [*_written(f"{name}.film.scale", film.scale), *_written(f"{name}.film.shift", film.shift)]
        places += (
            _dense_width(name, stage) if isinstance(stage, RepBlock) else _mixed_width(name, cast(MixStage, stage))
        )
    lead = layout.kernel_channels if net.large_kernel is not None else 0
    if lead:
        places += [Place("large_kernel", dim, limit=lead, reads=dim == 1) for dim in (0, 1)]
    return Axis("width", "width", layout.width, (*places, *_read("tail", net.tail)), lead)


def _dense_width(name: str, stage: RepBlock) -> Iterator[Place]:
    yield from _read(f"{name}.convs.0", stage.convs[0])
    yield from _written(f"{name}.convs.2", stage.convs[2])


def _mixed_width(name: str, stage: MixStage) -> Iterator[Place]:
    for k, unit in enumerate(cast("list[MixUnit]", stage.units)):
        yield from _read(f"{name}.units.{k}.expand", unit.expand)
        yield from _written(f"{name}.units.{k}.project", unit.project)
    if stage.attention is not None:
        yield from _written(f"{name}.attention.norm", stage.attention.norm)
        yield from _read(f"{name}.attention.qkv", stage.attention.qkv)
        yield Place(f"{name}.attention.project.weight", 0)
    yield from _read(f"{name}.conv", stage.conv)
    yield from _written(f"{name}.conv", stage.conv)


def _written(name: str, layer: nn.Module) -> Iterator[Place]:
    """The output channels of a layer."""
    yield from (Place(f"{name}.{parameter}", 0) for parameter in ("weight", "bias"))
    if isinstance(layer, RepConv3x3):
        yield from (Place(f"{name}.{parameter}", 0) for parameter in ("pointwise", "spread"))


def _read(name: str, layer: nn.Module) -> Iterator[Place]:
    """The input channels of a layer."""
    yield Place(f"{name}.weight", 1, reads=True)
    if isinstance(layer, RepConv3x3):
        yield from (Place(f"{name}.{parameter}", 1, reads=True) for parameter in ("pointwise", "squeeze"))
