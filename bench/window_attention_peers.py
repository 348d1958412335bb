"""Window attention as it is done without this project: the public modules' own steps, SDPA, FlexAttention, compiled.

Each peer does what lies between the qkv Linear and the proj Linear of a block, *in the order of the public module*:
SwinIR and HAT roll and partition the C channels before the qkv Linear and merge and roll back after proj, so a peer
has up to three stages with the Linears, which are not timed, between them. DAT rolls q, k and v, and OCAB unfolds k and
v, after the Linear: one stage. The shift mask is built beforehand, as at the native size.

The literal forms follow the layout changes of SwinIR (arXiv 2108.10257), HAT (2205.04437) and DAT (2308.03364). OCAB's
index is Swin's rule here; HAT's own is the same table with its rows permuted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from sr_kernels import functional as K

Stage = Callable[..., Tensor]
BACKENDS = {0: "math", 1: "flash", 2: "mem-efficient", 3: "cuDNN"}


@dataclass(frozen=True)
class Geometry:
    """One attention on one map: heads, windows and the sides of the map, which the windows divide."""

    heads: int
    windows: K.Windows
    height: int
    width: int

    def labels(self, device: str) -> Tensor | None:
        """(windows, N) int32 regions of the rolled map that may see each other; None without a shift."""
        if not any(self.windows.shift):
            return None
        labels = torch.zeros(1, self.height, self.width, 1, dtype=torch.int32, device=device)
        rows, columns = (
            (0, side - size, side - shift, side)
            for side, size, shift in zip((self.height, self.width), self.windows.size, self.windows.shift, strict=True)
        )
        for i, (top, bottom) in enumerate(pairwise(rows)):
            for j, (left, right) in enumerate(pairwise(columns)):
                labels[:, top:bottom, left:right] = 3 * i + j
        return self.partition(labels)[..., 0]

    def roll(self, x: Tensor, direction: int, axes: tuple[int, int] = (1, 2)) -> Tensor:
        """(B,H,W,...) rolled by the shift, -1 before and +1 after the attention."""
        shifts = (direction * self.windows.shift[0], direction * self.windows.shift[1])
        return torch.roll(x, shifts, axes) if any(shifts) else x

    def partition(self, x: Tensor) -> Tensor:
        """(B,H,W,C) -> (B*windows, N, C)."""
        (B, H, W, C), (h, w) = x.shape, self.windows.size
        x = x.view(B, H // h, h, W // w, w, C).permute(0, 1, 3, 2, 4, 5)
        return x.contiguous().view(-1, h * w, C)

    def merge(self, x: Tensor) -> Tensor:
        """(B*windows, N, C) -> (B,H,W,C)."""
        (H, W), (h, w), C = (self.height, self.width), self.windows.size, x.shape[-1]
        x = x.view(-1, H // h, W // w, h, w, C).permute(0, 1, 3, 2, 4, 5)
        return x.contiguous().view(-1, H, W, C)

    def gather(self, x: Tensor) -> Tensor:
        return self.partition(self.roll(x, -1))

    def scatter(self, x: Tensor) -> Tensor:
        return self.roll(self.merge(x), 1)


class Eager(nn.Module):
    """softmax(q k^T + bias + mask) v on (B*windows, heads, N, d), one operator after the other."""

    backend = ""  # which of SDPA's ran

    def __init__(self, geometry: Geometry, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads, self.tokens = geometry.heads, geometry.windows.tokens
        self.index = geometry.windows.relative_index().to(device)
        self.mask = None
        if (labels := geometry.labels(device)) is not None:
            self.mask = torch.where(labels[:, :, None] == labels[:, None], 0.0, -100.0).to(dtype)

    def bias(self, table: Tensor) -> Tensor:
        return table[self.index.view(-1)].view(*self.tokens, -1).permute(2, 0, 1).contiguous()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.bias(table).unsqueeze(0)
        if self.mask is not None:
            scores = scores.view(-1, len(self.mask), self.heads, *self.tokens) + self.mask[None, :, None]
            scores = scores.view(-1, self.heads, *self.tokens)
        return scores.softmax(dim=-1) @ v


class Sdpa(Eager):
    """F.scaled_dot_product_attention; bias and mask are one tensor, head dims padded to what its backends accept.

    The windows of a picture stand on SDPA's axis of heads, so that one mask serves all pictures of the batch and no
    axis of its grid passes 65535.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        head_dim, scale = q.shape[-1], q.shape[-1] ** -0.5
        q, k, v = (F.pad(t, (0, -head_dim % 8)).contiguous() for t in (q, k, v))
        mask, windows = self.bias(table), 1
        if self.mask is not None:
            mask, windows = (mask + self.mask[:, None]).flatten(0, 1), len(self.mask)
        shape = q.shape
        q, k, v = (t.view(-1, windows * self.heads, *t.shape[2:]) for t in (q, k, v))
        mask = mask.expand(len(q), *mask.shape)
        self.backend = BACKENDS.get(torch.ops.aten._fused_sdp_choice(q, k, v, mask, scale=scale), "unknown")
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scale).view(shape)[..., :head_dim]


class Flex(Eager):
    """flex_attention with bias and mask in its score_mod; to be compiled."""

    def __init__(self, geometry: Geometry, device: str, dtype: torch.dtype) -> None:
        super().__init__(geometry, device, dtype)
        # The index is a difference of one number per query and one per key: two short reads instead of one long.
        self.query_row = self.index[:, 0].contiguous()
        self.key_row = self.index[0, 0] - self.index[0]
        self.label, self.mask = geometry.labels(device), None
        self.plain = geometry.windows.keys_are_queries

    def forward(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        label, query_row, key_row = self.label, self.query_row, self.key_row
        if not self.plain:  # Inductor 2.14 fails on the views that overlapping key windows are
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        rows = table.float()  # its gradient is summed in the dtype of what score_mod reads

        def biased(score: Tensor, window: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            score = score + rows[query_row[query] - key_row[key], head]
            if label is None:
                return score
            cell = window % len(label)
            return torch.where(label[cell, query] == label[cell, key], score, score - 100.0)

        return flex_attention(q, k, v, score_mod=biased)  # type: ignore[return-value]


@dataclass
class Peer:
    """The stages of a contestant: `gather` before the qkv Linear, `core` after it, `scatter` after proj."""

    attend: Eager
    core: Stage
    gather: Stage | None = None
    scatter: Stage | None = None

    def __call__(self, x: Tensor, qkv: Tensor, table: Tensor) -> tuple[Tensor, Tensor | None]:
        """The (B,H,W,C) result, and what `gather` made of x (B,H,W,C) if there is such a stage."""
        windows = None if self.gather is None else self.gather(x)
        if not torch.is_grad_enabled():
            windows = None  # the Linear has read it; training keeps it
        out = self.core(qkv, table)
        return (out if self.scatter is None else self.scatter(out)), windows

    def compiled(self) -> "Peer":
        def compile(stage: Stage | None) -> Any:
            return None if stage is None else torch.compile(stage, dynamic=False, fullgraph=True)

        return Peer(self.attend, compile(self.core), compile(self.gather), compile(self.scatter))


def peer(form: str, kind: type[Eager], geometry: Geometry, **place: Any) -> Peer:
    """A peer of `form` "swin", "dat" or "overlapping"; `place` is device and dtype.

    `core` takes qkv (B,H,W,3C), in form "swin" already as (B*windows, N, 3C).
    """
    attend = kind(geometry, **place)
    literal = kind is Eager
    heads, (h, w) = geometry.heads, geometry.windows.size

    def tokens(out: Tensor) -> Tensor:
        """(B*windows, heads, N, d) -> (B*windows, N, C)."""
        return out.transpose(1, 2).reshape(-1, h * w, heads * out.shape[-1])

    def swin(qkv: Tensor, table: Tensor) -> Tensor:
        q, k, v = qkv.reshape(*qkv.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return tokens(attend(q, k, v, table))

    def dat(qkv: Tensor, table: Tensor) -> Tensor:
        B, H, W, C = *qkv.shape[:3], qkv.shape[3] // 3
        maps = geometry.roll(qkv.view(B, H, W, 3, C).permute(3, 0, 1, 2, 4), -1, (2, 3)).unbind(0)
        q, k, v = (_through_nchw(m, h, w, heads) if literal else _split(geometry.partition(m), heads) for m in maps)
        return geometry.scatter(tokens(attend(q, k, v, table)))

    def overlapping(qkv: Tensor, table: Tensor) -> Tensor:
        C = qkv.shape[3] // 3
        q = geometry.partition(qkv[..., :C])
        k, v = (_unfolded if literal else _strided)(qkv[..., C:], geometry.windows)
        return geometry.merge(tokens(attend(_split(q, heads), _split(k, heads), _split(v, heads), table)))

    if form == "swin":
        return Peer(attend, swin, geometry.gather, geometry.scatter)
    return Peer(attend, dat if form == "dat" else overlapping)


def _split(x: Tensor, heads: int) -> Tensor:
    """(B*windows, N, C) -> (B*windows, heads, N, d)."""
    return x.reshape(*x.shape[:2], heads, -1).permute(0, 2, 1, 3)


def _through_nchw(x: Tensor, h: int, w: int, heads: int) -> Tensor:
    """DAT's way from a map (B,H,W,C) to (B*windows, heads, N, d): to channels first, to windows, to heads."""
    B, H, W, C = x.shape
    x = x.reshape(B, H * W, C).transpose(-2, -1).contiguous().view(B, C, H // h, h, W // w, w)
    return _split(x.permute(0, 2, 4, 3, 5, 1).contiguous().view(-1, h * w, C), heads).contiguous()


def _unfolded(kv: Tensor, windows: K.Windows) -> tuple[Tensor, Tensor]:
    """HAT's way from k and v (B,H,W,2C) to two (B*windows, Nk, C): nn.Unfold and one transposition."""
    (B, _, _, channels), (keys, step, offset) = kv.shape, (windows.keys, windows.key_step, windows.key_offset)
    kv = F.unfold(kv.permute(0, 3, 1, 2), keys, stride=step, padding=(-offset[0], -offset[1]))
    kv = kv.view(B, 2, channels // 2, keys[0] * keys[1], -1).permute(1, 0, 4, 3, 2).contiguous()
    return kv[0].flatten(0, 1), kv[1].flatten(0, 1)


def _strided(kv: Tensor, windows: K.Windows) -> tuple[Tensor, Tensor]:
    """The same from overlapping views of the padded map: one copy less."""
    (y, x), (keys, step), C = windows.key_offset, (windows.keys, windows.key_step), kv.shape[3] // 2
    kv = F.pad(kv, (0, 0, -x, -x, -y, -y)).unfold(1, keys[0], step[0]).unfold(2, keys[1], step[1])
    k, v = (part.permute(0, 1, 2, 4, 5, 3).reshape(-1, keys[0] * keys[1], C) for part in kv.split(C, 3))
    return k, v
