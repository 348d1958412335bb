"""What the families have in common when they compare a layer with the kernel's rules."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sr_engine.dropin.fused import NotExactError
from sr_kernels import functional as K
from sr_kernels.window_attention.api import MAX_HEAD_DIM
from sr_kernels.window_attention.reference import seam_between


def has(module: Any, **parts: type | tuple[type, ...]) -> bool:
    """Whether the module has these parts (dotted names with __ for the dot) of these kinds."""
    for name, kind in parts.items():
        found = module
        for part in name.split("__"):
            found = getattr(found, part, None)
        if not isinstance(found, kind):
            return False
    return True


def takes(module: Any, *names: str) -> bool:
    """Whether the forward of the module's class has just these arguments."""
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and code.co_varnames[1 : code.co_argcount] == names


def expect(condition: bool, otherwise: str) -> None:
    """Raise a NotExactError with this reason unless the condition holds."""
    if not condition:
        raise NotExactError(otherwise)


def expect_heads(dim: int, heads: int) -> None:
    """The channels divide into heads that a kernel can hold."""
    expect(dim % heads == 0, f"{dim} channels do not divide into {heads} heads")
    head_dim = dim // heads
    expect(head_dim <= MAX_HEAD_DIM, f"its heads have {head_dim} channels, the kernel holds at most {MAX_HEAD_DIM}")


def expect_index(
    windows: K.Windows, theirs: Tensor, rows: int, ours: Callable[[Tensor], Tensor] = lambda table: table
) -> None:
    """The layer reads its bias table where the kernel will.

    Args:
        theirs: the layer's own index, one entry for each query and key, row-major; negative entries wrap.
        rows: of the layer's table.
        ours: what the family does to the table (rows, heads) before it passes it on.
    """
    tokens = windows.tokens
    expect(
        theirs.numel() == tokens[0] * tokens[1],
        f"its bias index has {theirs.numel()} entries, windows of {tokens[0]} queries and {tokens[1]} keys have "
        f"{tokens[0] * tokens[1]}",
    )
    probe = torch.arange(rows, dtype=torch.float64)[:, None]
    passed = ours(probe)
    expect(
        len(passed) == windows.table_rows, f"its bias table has {rows} rows, these windows have {windows.table_rows}"
    )
    index = theirs.detach().cpu().long().reshape(tokens)
    expect(bool(((index < rows) & (index >= -rows)).all()), "its bias index points outside its table")
    expect(torch.equal(passed[windows.relative_index(), 0], probe[index, 0]), "its bias index follows another rule")


def seam_mask(windows: K.Windows, height: int, width: int) -> Tensor:
    """(windows, Nq, Nk) float32: what the kernel adds to the logits on a map of this size, as Swin's masks have it."""
    apart = seam_between(windows, height, width, torch.device("cpu")).squeeze(1)
    return torch.zeros(apart.shape).masked_fill_(apart, windows.penalty)


def expect_mask(windows: K.Windows, theirs: Tensor, height: int, width: int) -> None:
    """The mask (windows, Nq, Nk) that the layer stores for a map of this size is what the kernel adds."""
    expect(
        torch.equal(theirs.detach().cpu().float(), seam_mask(windows, height, width)), "its mask follows another rule"
    )


def scale_logits(*projections: nn.Module) -> None:
    """Scale the projections to queries and keys so that logits of unit inputs get a standard deviation of 5."""
    with torch.no_grad():
        for projection in projections:
            for parameter in projection.parameters():
                if parameter.dim() > 1:
                    parameter *= 5**0.5


def widen(last: nn.Linear, table: Callable[[], Tensor], std: float = 1.5) -> None:
    """Scale the last layer of a network that computes a bias table, a row per head, so that the table gets this std."""
    with torch.no_grad():
        last.weight *= (std / table().std(0).clamp_min(1e-12))[:, None]


def tokens(site_device: torch.device, batch: int, height: int, width: int, channels: int) -> Tensor:
    """Random tokens (B, H * W, C) of unit variance, the same on every call."""
    generator = torch.Generator().manual_seed(height * 1009 + width)
    return torch.randn(batch, height * width, channels, generator=generator).to(site_device)
