"""What the content-aware parts see in a picture: its statistics, and what a network makes of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sr_engine.errors import EngineError
from sr_engine.infer.regions import REGIONS, direction, region_classes
from sr_engine.layers.content import STATISTICS_REACH, ContentAnalyzer
from sr_engine.layers.routing import Route
from sr_engine.models.generator import Generator

Map = NDArray[np.float32]

_STRIP_PIXELS = 1 << 19  # computed at a time
_WINDOW = 8  # of the difficulty where no network has another


@dataclass(frozen=True)
class Analysis:
    """Everything that `analysis_sheet` draws. Maps are means over cells of `cell` x `cell` pixels, (h, w) cells.

    size: height and width of the picture in pixels.
    picture: (h, w, 3) in 0..1.
    statistics: (16, h, w), those of `content_stats` at the fine, then at the coarse scale.
    direction: (2, h, w), coherence times cosine and sine of twice the gradient's angle; opposite ones cancel in a cell.
    coherence: (h, w), the length of the direction of each pixel.
    regions: (3, h, w), share of each class of `REGIONS`.
    shares: of each class in the picture.
    window: side of the windows in pixels.
    difficulty: (windows down, windows across), mean log Laplacian.
    routes: gate and choice of each stage with attention, each (windows down, windows across).
    gains: (h, w), mean |g - 1| over the stencils of a steered upsampler; None without one.
    notes: what of a network there is nothing to draw of, and why.
    """

    size: tuple[int, int]
    cell: int
    picture: Map
    statistics: Map
    direction: Map
    coherence: Map
    regions: Map
    shares: tuple[float, ...]
    window: int
    difficulty: Map
    routes: Sequence[tuple[Map, NDArray[np.bool_]]] = ()
    gains: Map | None = None
    notes: Sequence[str] = ()


@torch.no_grad()
def analyse(
    picture: Tensor,
    net: nn.Module | None = None,
    *,
    share: float | None = None,
    device: torch.device | str = "cpu",
    most_cells: int = 1024,
) -> Analysis:
    """Statistics of a picture at full resolution, strip by strip, and what a network makes of them.

    Args:
        picture: (3, H, W) uint8, or float in 0..1; any size from 1x1.
        net: a network in eval mode on `device`; of one that is no `Generator` there is only a note.
        share: of the windows that attention is given to; None = as the network's routing says.
        device: where to compute.
        most_cells: upper bound of the cells along the longer side.

    Raises:
        EngineError: a share out of (0, 1], or no gated attention that it could apply to.
    """
    generator = net if isinstance(net, Generator) else None
    window = (generator.layout.window if generator is not None else 0) or _WINDOW
    cell = math.ceil(max(picture.shape[1:]) / most_cells)
    strips = _strips(picture, torch.device(device), window, cell)
    parts = [_strip(*strip, window, cell, generator) for strip in strips]
    maps = torch.cat([part[0] for part in parts], 1).cpu().numpy()
    difficulty = torch.cat([part[1] for part in parts], 2)
    counts = torch.stack([part[2] for part in parts]).sum(0)
    gains = [part[3].cpu().numpy() for part in parts if part[3] is not None]
    routes, notes = _of_network(net, difficulty, share)
    return Analysis(
        size=(picture.shape[1], picture.shape[2]),
        cell=cell,
        picture=maps[:3].transpose(1, 2, 0),
        statistics=maps[3:19],
        direction=maps[19:21],
        coherence=maps[21],
        regions=maps[22:25],
        shares=tuple((counts / counts.sum()).tolist()),
        window=window,
        difficulty=difficulty[0, 0].cpu().numpy(),
        routes=[(route.gate[0, 0].cpu().numpy(), route.chosen[0, 0].cpu().numpy()) for route in routes],
        gains=np.concatenate(gains) if gains else None,
        notes=notes,
    )


def _strips(picture: Tensor, device: torch.device, window: int, cell: int) -> Iterator[tuple[Tensor, int, int]]:
    """Full-width parts (1, 3, rows, W) in 0..1 with what their statistics see of their neighbours, and which rows of
    them count. They begin at multiples of 2, of the window and of the cell, so that all parts pool what the whole does.
    """
    height, width = picture.shape[1:]
    origin = math.lcm(2, window)
    unit = math.lcm(origin, cell)
    rows = unit * max(1, _STRIP_PIXELS // (width * unit))
    halo = origin * math.ceil(STATISTICS_REACH / origin)
    peak = 1.0 if picture.is_floating_point() else 255.0
    for top in range(0, height, rows):
        first, end = max(0, top - halo), min(height, top + rows)
        part = picture[:, first : min(height, end + halo)].to(device).float() / peak
        yield part[None], top - first, end - first


def _strip(
    x: Tensor, first: int, end: int, window: int, cell: int, net: Generator | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of rows first..end: all maps (25, h, w), the difficulty, the pixels of each class, the strength of the gains."""
    content = ContentAnalyzer(window)(x)
    inside = slice(first, end)
    classes = F.one_hot(region_classes(content.fine)[0, inside], len(REGIONS)).permute(2, 0, 1)
    directed = direction(content.fine)[0]
    maps = torch.cat((x[0], content.fine[0], directed, directed.norm(dim=0, keepdim=True)))[:, inside]
    gains = None
    if net is not None and net.upsampler.steer is not None:
        steered = net.upsampler.steer(content.fine[:, :, inside].contiguous())
        gains = _pooled(torch.tanh(net.upsampler.level + steered).abs().mean(1), cell)[0]
    difficulty = content.difficulty[:, :, first // window : math.ceil(end / window)]
    return _pooled(torch.cat((maps, classes.to(maps))), cell), difficulty, classes.sum((1, 2)), gains


def _pooled(maps: Tensor, cell: int) -> Tensor:
    return F.avg_pool2d(maps, cell, ceil_mode=True)


def _of_network(net: nn.Module | None, difficulty: Tensor, share: float | None) -> tuple[list[Route], list[str]]:
    """The routes of a network, and a sentence for each part it does not have."""
    if share is not None and not (isinstance(net, Generator) and net.choose(difficulty)):
        raise EngineError(f"an attention share of {share} needs a model with gated attention.")
    if net is None:
        return [], []
    if not isinstance(net, Generator):
        return [], ["The model is no generator of this engine: it has no content-aware parts to draw."]
    notes = []
    routes = net.choose(difficulty, share)
    if not routes:
        notes.append("The model has no attention: no gates to draw.")
    elif not net.layout.gate:
        notes.append("The model's attention has no gates: they are 1 everywhere.")
    if net.upsampler.steer is None:
        level = torch.tanh(net.upsampler.level).abs().mean().item()
        notes.append(f"The model's upsampler is not steered: one gain a stencil everywhere, mean |g - 1| {level:.3f}.")
    if not net.layout.film or not net.layout.stages:
        notes.append("The model's features are not modulated by content.")
    return routes, notes
