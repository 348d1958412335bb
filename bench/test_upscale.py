"""Whole pictures: our `Upscaler` beside the bare network, its compiled form, and bicubic interpolation.

    pytest bench/test_upscale.py --benchmark-only -s

`network` is what a program without the engine would call: the folded network in the same precision on a float tensor
that lies on the device, all at once. `Upscaler` takes and gives uint8 arrays; its time over that of `network` is what
conversion, tiling, blending and copies cost. Weights are random, as time does not depend on them. The host's clock
decides on a GPU, too, since part of that work is the host's. Pillow is left out there, and its memory is not counted.

Target: tiny is at most a tenth slower than a plain network of its size (256x256, 2 CPU cores).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

pytest.importorskip("pydantic")

from bench import devices, networks
from bench.clock import Call
from bench.devices import FULL, SMOKE, place
from bench.race import Case
from sr_engine import Upscaler

OURS, BASELINE = "Upscaler", "network"
TOLERANCE = 1 / 255
# A network whose receptive field is larger than any overlap differs in tiles; its weights in half precision round.
LOOSE = {
    "Upscaler, tiled": 0.02,
    "network, bf16 weights": 0.05,
    "F.interpolate bicubic": None,
    "Pillow bicubic": None,
}


@dataclass(frozen=True)
class Row:
    """A picture of `size` (height, width) through a preset; `tile` is the side of the tiles in one contestant.

    Args:
        variants: whether other layouts and precisions of the network take part, on a GPU.
        compile: whether its compiled form takes part, on a GPU.
    """

    device: str
    preset: str
    scale: int
    size: tuple[int, int]
    tile: int = 128
    dtype: str = "float32"
    variants: bool = False
    compile: bool = False
    headline: bool = False
    quick: bool = False

    @property
    def title(self) -> str:
        return f"{self.preset} x{self.scale} {self.size[1]}x{self.size[0]}"


ROWS = [
    Row("cpu", "tiny", 4, (180, 320), headline=True, quick=True),
    Row("cpu", "small", 4, (180, 320)),
    Row("cpu", "base", 4, (180, 320)),
    Row("cpu", "tiny", 2, (512, 512), 256),
    Row("cuda", "tiny", 4, (360, 640), 256),
    Row("cuda", "tiny", 4, (360, 640), 256, "bfloat16", variants=True, quick=True),
    Row("cuda", "small", 4, (720, 1280), 512, "bfloat16", variants=True, compile=True),
    Row("cuda", "tiny", 4, (1080, 1920), 512, "bfloat16", compile=True, headline=True),
    Row("cuda", "tiny", 2, (1080, 1920), 512, "bfloat16"),
    Row("cuda", "base", 4, (1080, 1920), 512, "bfloat16"),
]


def rows() -> list[Any]:
    return [
        devices.case(row.device, row, id=f"{row.title}-{row.dtype}".replace(" ", "-"), quick=row.quick) for row in ROWS
    ]


class Contest:
    """The contestants for a picture (height, width) of random uint8 values, and what is known of their work."""

    def __init__(self, row: Row) -> None:
        self.row, self.where = row, place(row.device)
        # A CPU takes seconds for a network in half precision, too long for a smoke run.
        self.half = row.dtype == "bfloat16" and not SMOKE
        self.net = networks.generator(row.preset, row.scale, self.where)
        self.picture = np.random.default_rng(0).integers(0, 256, (*row.size, 3), dtype=np.uint8)
        x = torch.from_numpy(self.picture).permute(2, 0, 1)[None].to(self.where) / 255
        self.x = x.contiguous(memory_format=torch.channels_last)

    def network(self, net: Callable[[Tensor], Tensor] | None = None, x: Tensor | None = None) -> Call:
        net, x = net or self.net, self.x if x is None else x
        half = self.half and x.dtype == torch.float32

        def call() -> Tensor:
            with torch.autocast(self.where, torch.bfloat16, enabled=half):
                return net(x)

        return call

    def upscaler(self, picture: Any = None, **options: Any) -> Call:
        up = Upscaler(self.net, device=self.where, precision="bf16" if self.half else "fp32", **options)
        return lambda: up(self.picture if picture is None else picture)

    def bicubic(self) -> dict[str, Call]:
        (height, width), scale = self.row.size, self.row.scale
        size = (width * scale, height * scale)
        calls: dict[str, Call] = {
            "F.interpolate bicubic": lambda: F.interpolate(self.x, scale_factor=scale, mode="bicubic")
        }
        if self.where == "cpu":
            image = Image.fromarray(self.picture)
            calls["Pillow bicubic"] = lambda: np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        return calls

    def variants(self) -> dict[str, Call]:
        first = copy.deepcopy(self.net).to(memory_format=torch.contiguous_format)
        dtype = torch.bfloat16 if self.half else torch.float32
        return {
            "network, channels first": self.network(first, self.x.contiguous()),
            "network, bf16 weights": self.network(copy.deepcopy(self.net).to(dtype), self.x.to(dtype)),
        }

    def checked(self, _name: str, result: Any) -> Tensor:
        """(1, 3, H, W) in 0..1, whatever form it has."""
        if isinstance(result, np.ndarray):
            return torch.from_numpy(result.copy()).permute(2, 0, 1)[None] / 255
        return result.float().clamp(0, 1)

    def work(self) -> dict[str, Any]:
        """The picture read, the result written, the weights read; see `networks.flops` for what is not counted."""
        (height, width), scale = self.row.size, self.row.scale
        pixels = height * width
        return {
            "moved": 3 * pixels * (1 + scale**2) + 4 * networks.parameters(self.net),
            "flops": networks.flops(self.net, self.where, height, width),
            "unit": "megapixels",
            "per_call": pixels * scale**2 / 1e6,
        }


def case_of(contest: Contest, title: str, **more: Any) -> Case:
    row = contest.row
    return Case(
        "upscale",
        title,
        kind="end to end",
        dtype=row.dtype,
        device=row.device,
        ours=OURS,
        baseline=BASELINE,
        by_host=True,
        **contest.work(),
        **more,
    )


@pytest.mark.parametrize("row", rows())
def test_upscale(race, row):
    torch._dynamo.reset()
    contest = Contest(row if not SMOKE else Row(**{**vars(row), "size": (24, 40), "tile": 32}))
    runs = {BASELINE: contest.network(), **contest.bicubic()}
    if row.device == "cuda":
        if row.compile or FULL:
            runs["network, compiled"] = contest.network(networks.compiled(contest.net))
        if row.variants:
            runs |= contest.variants()
        runs["Upscaler, tensor on the device"] = contest.upscaler(contest.x, tile="off")
    runs |= {OURS: contest.upscaler(tile="off"), "Upscaler, tiled": contest.upscaler(tile=contest.row.tile)}
    race(
        case_of(contest, row.title, headline=row.headline),
        runs,
        tolerance=TOLERANCE,
        loose=LOOSE,
        checked=contest.checked,
        notes={"tile": contest.row.tile},
        **rounds(row),
    )


SIDES = [32, 48] if SMOKE else [64, 128, 256, 512, 1024, 2048]
LARGE = 1 << 20  # pixels; half as many rounds, as copying results of a hundred megabytes to the host takes a while


def rounds(row: Row) -> dict[str, int]:
    return {"rounds": 2} if row.device == "cuda" and row.size[0] * row.size[1] >= LARGE else {}


@pytest.mark.parametrize(
    ("device", "side"),
    [devices.case("cpu", "cpu", side, id=f"{side}") for side in SIDES if side <= 1024]
    + [devices.case("cuda", "cuda", side, id=f"{side}") for side in SIDES],
)
def test_growth(race, device, side):
    """Tiny x4 as the picture grows, tiled as the engine sees fit."""
    contest = Contest(Row(device, "tiny", 4, (side, side), dtype="bfloat16" if device == "cuda" else "float32"))
    race(
        case_of(contest, f"growth: tiny x4 {side}x{side}", series="upscale tiny x4", side=side),
        {BASELINE: contest.network(), OURS: contest.upscaler()},
        tolerance=TOLERANCE,
        checked=contest.checked,
        **rounds(contest.row),
    )


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        devices.case("cpu", "cpu", "float32", id="plain", quick=True),
        devices.case("cuda", "cuda", "bfloat16", id="plain"),
    ],
)
def test_plain_network(race, device, dtype):
    """Tiny beside as many 3x3 convolutions of the same width without gates and upsampler; reference: tiny unfolded."""
    side = 16 if SMOKE else 256
    contest = Contest(Row(device, "tiny", 4, (side, side), dtype=dtype))
    layout: Any = contest.net.layout
    rival = networks.plain(layout.width, 3 * layout.stages, 4, contest.where)
    sizes = networks.parameters(contest.net), networks.parameters(rival)
    assert abs(sizes[0] / sizes[1] - 1) < 0.02, f"parameters of tiny and its rival: {sizes}"
    unfolded: nn.Module = networks.generator("tiny", 4, contest.where, fold=False)
    case = Case(
        "upscale",
        f"tiny x4 beside a plain network {side}x{side}",
        dtype=dtype,
        device=device,
        ours="tiny",
        baseline="plain network",
        headline=device == "cpu",
        **contest.work(),
    )
    race(
        case,
        {"plain network": contest.network(rival), "tiny": contest.network()},
        reference=contest.network(unfolded),
        tolerance=1e-4 if dtype == "float32" else 0.03,
        loose={"plain network": None},
        notes={"parameters": f"{sizes[1]} and {sizes[0]}"},
    )
