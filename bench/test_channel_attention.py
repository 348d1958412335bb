"""channel_attention beside the steps of Restormer and DAT, eager and compiled, and SDPA with pixels as its head dim.

    pytest bench/test_channel_attention.py --benchmark-only -s

Restormer's maps have channels outside and pixels inside, DAT's the reverse. Target on a CPU: never slower than the
networks' own steps. SDPA computes the same product once queries and keys are unit vectors: its tokens are the channels,
its head dim the pixels, which only its plain backend takes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.devices import FULL, SMOKE, case, impl, place
from bench.peers import DTYPES, KINDS, compiled, finished
from bench.race import Case
from sr_kernels import functional as K

# layout, channels, heads: DAT; Restormer's first and third level.
NETWORKS = {"DAT": ("nhwc", 180, 6), "Restormer 1": ("nchw", 48, 1), "Restormer 3": ("nchw", 192, 4)}
# Against float64, of the largest value. The networks' own steps round unit vectors and cosines to half precision.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.08}


@dataclass(frozen=True)
class Attention:
    name: str
    batch: int
    side: int
    device: str = "cpu"
    dtype: str = "float32"
    training: bool = False
    compiles: bool = False

    @property
    def title(self) -> str:
        return f"{self.name}, {self.side}x{self.side}, batch {self.batch}"

    @property
    def id(self) -> str:
        kind = "training" if self.training else "forward"
        return f"{self.name.replace(' ', '-')}-{self.side}-b{self.batch}-{self.dtype}-{kind}"


def split(qkv: Tensor, heads: int, layout: str) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (B, heads, d, pixels) the way each network cuts its map."""
    if layout == "nchw":
        B, _, H, W = qkv.shape
        q, k, v = (x.reshape(B, heads, -1, H * W) for x in qkv.chunk(3, dim=1))
    else:
        B, H, W, _ = qkv.shape
        q, k, v = qkv.reshape(B, H * W, 3, heads, -1).permute(2, 0, 3, 1, 4).transpose(-2, -1)
    return F.normalize(q, dim=-1), F.normalize(k, dim=-1), v


def joined(out: Tensor, qkv: Tensor, layout: str) -> Tensor:
    """(B, heads, d, pixels) back to a map."""
    if layout == "nchw":
        return out.reshape(out.shape[0], -1, *qkv.shape[2:])
    return out.permute(0, 3, 1, 2).reshape(*qkv.shape[:3], -1)


def literal(qkv: Tensor, temperature: Tensor, heads: int, layout: str) -> Tensor:
    q, k, v = split(qkv, heads, layout)
    out = ((q @ k.transpose(-2, -1)) * temperature).softmax(dim=-1) @ v
    return joined(out, qkv, layout)


def sdpa(qkv: Tensor, temperature: Tensor, heads: int, layout: str) -> Tensor:
    q, k, v = split(qkv, heads, layout)
    return joined(F.scaled_dot_product_attention(q * temperature, k, v, scale=1.0), qkv, layout)


def cases():
    for name in NETWORKS:
        for training in (False, True):
            for batch, side in ((1, 128), (4, 64)):
                yield Attention(name, batch, side, training=training, compiles=name == "DAT" and batch == 1)
            for batch in (1, 16):
                for dtype in ("bfloat16", "float32"):
                    some = batch == 1 and dtype == "bfloat16" and (not training or name != "Restormer 3")
                    compiles = FULL or some
                    yield Attention(name, batch, 256, "cuda", dtype, training, compiles)


HEADLINES = {("DAT", "bfloat16", 1, 256), ("Restormer 1", "bfloat16", 1, 256), ("DAT", "float32", 1, 128)}
QUICK = {("DAT", 64), ("Restormer 3", 64), ("DAT", 256)}


@pytest.mark.parametrize(
    "spec",
    [case(s.device, s, id=s.id, quick=(s.name, s.side) in QUICK and not s.compiles) for s in cases()],
)
def test_channel_attention(race, spec):
    layout, C, heads = NETWORKS[spec.name]
    batch, side = (1, 16) if SMOKE else (spec.batch, spec.side)
    shape, axis = [batch, side, side], 3 if layout == "nhwc" else 1
    torch.manual_seed(0)

    def randn(channels: int) -> Tensor:
        x = torch.randn(*shape[:axis], channels, *shape[axis:], device=place(spec.device))
        return x.to(DTYPES[spec.dtype])

    qkv, pull = randn(3 * C).requires_grad_(spec.training), randn(C)
    temperature = torch.rand(heads, 1, 1, device=qkv.device).to(qkv.dtype).requires_grad_(spec.training)

    def theirs(steps: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: steps(qkv, temperature, heads, layout)

    def ours(maps: Tensor, t: Tensor, how: str) -> Tensor:
        return K.channel_attention(maps, heads=heads, temperature=t, layout=layout, impl=how)  # type: ignore

    calls = {"eager": theirs(literal), "sdpa": theirs(sdpa)}
    if spec.compiles:
        calls["torch.compile"] = theirs(compiled(literal))
    if spec.device == "cuda":
        calls["torch path"] = lambda: ours(qkv, temperature, "torch")
    calls["ours"] = lambda: ours(qkv, temperature, impl(spec.device))

    def exact() -> object:
        wide = [t.detach().double().requires_grad_(spec.training) for t in (qkv, temperature)]
        return finished(
            lambda: ours(wide[0], wide[1], "reference"), wide, (pull.double(),) if spec.training else None
        )()

    # Elements: q, k, v read and the result written; for gradients q, k, v once and the result's gradient twice (its
    # product with v is needed whole before the others begin), three written. Operations, two for a multiply-add: q k^T
    # and A v; their gradients are four products more of that size.
    elements = 12 if spec.training else 4
    race(
        Case(
            "channel_attention",
            spec.title,
            kind=KINDS[spec.training],
            dtype=spec.dtype,
            device=spec.device,
            moved=elements * pull.numel() * pull.element_size(),
            flops=(6 if spec.training else 2) * 2 * pull.numel() * (C // heads),
            headline=(spec.name, spec.dtype, spec.batch, spec.side) in HEADLINES
            and spec.training == (spec.name == "Restormer 1"),
        ),
        {name: finished(call, (qkv, temperature), (pull,) if spec.training else None) for name, call in calls.items()},
        reference=exact,
        tolerance=TOLERANCE[spec.dtype],
    )
