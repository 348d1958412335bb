"""ESC's window attention (Lee et al., arXiv 2503.06671) on maps (B, C, H, W), in the layout of its own repository.

The map is padded by reflection before the projection, and the bias is looked up by the place of the key relative to
the query: Swin's table read backwards. The layer holds its index as a tensor, or hands a function with the table in it
to FlexAttention; such a function still reads the first network's table after a deep copy.
"""

from collections.abc import Hashable, Sequence
from types import CellType, FunctionType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads, expect_index, has, scale_logits, takes
from sr_engine.dropin.fused import Fused, NotExactError
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class ESCAttention(Fused):
    """The layer with its projections, without norm and residual."""

    family = "ESC window attention"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, to_qkv=nn.Conv2d, to_out=nn.Conv2d, relative_position_bias=Tensor)
            and has(module, window_size=(tuple, list), num_heads=int, attn_type=str, attn_func=object)
            and (has(module, rpe_idxs=Tensor) or has(module, get_rpe=FunctionType))
            and module.relative_position_bias.dim() == 2
            and takes(module, "x")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        layer = site.module
        expect_heads(layer.to_out.in_channels, layer.num_heads)
        heads, rows = layer.relative_position_bias.shape
        expect(heads == layer.num_heads, f"its table holds {heads} heads instead of {layer.num_heads}")
        if hasattr(layer, "rpe_idxs"):
            index = _first_of_equal_heads(layer.rpe_idxs, heads)
        else:
            tables = _tables(layer.get_rpe)
            own = len(tables) == 1 and tables[0] is layer.relative_position_bias
            expect(own, "its score_mod reads another table than its own (is the network a deep copy?)")
            index = _index(layer.get_rpe, rows, layer.window_size[0] * layer.window_size[1])
        expect_index(K.Windows(tuple(layer.window_size)), index, rows, lambda table: table.flip(0))

    @classmethod
    def key(cls, site: Site) -> Hashable:
        layer = site.module
        return tuple(layer.window_size), layer.to_out.in_channels, layer.num_heads, layer.attn_type

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        layer = site.module
        rows, columns = layer.window_size
        generator = torch.Generator().manual_seed(0)
        shapes = [(1, layer.to_qkv.in_channels, *size) for size in ((2 * rows, 3 * columns), (2 * rows - 1, columns))]
        return [(torch.randn(shape, generator=generator).to(site.device),) for shape in shapes]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.to_qkv)
        if hasattr(module, "get_rpe"):
            module.get_rpe = _with_table(module.get_rpe, module.relative_position_bias)
        if _is_torchs(module.attn_func):
            module.attn_func = _attend

    def fused(self, x: Tensor) -> Tensor:
        layer = cast(Any, self)
        rows, columns = layer.window_size
        height, width = x.shape[2:]
        down, right = -height % rows, -width % columns
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="reflect")
        out = K.window_attention(
            layer.to_qkv(x).permute(0, 2, 3, 1),
            layer.relative_position_bias.flip(1).t(),
            heads=layer.num_heads,
            windows=K.Windows((rows, columns)),
        )
        return layer.to_out(out.permute(0, 3, 1, 2)[:, :, :height, :width])


def _first_of_equal_heads(index: Tensor, heads: int) -> Tensor:
    """One head's lookups out of (heads * pairs, 2): a head and a row of the table for each."""
    expect(index.dim() == 2 and index.shape[1] == 2 and len(index) % heads == 0, "its bias index has another form")
    head, row = index.view(heads, -1, 2).unbind(2)
    own = torch.arange(heads, device=index.device)[:, None].expand_as(head)
    expect(torch.equal(head, own) and torch.equal(row, row[:1].expand_as(row)), "its heads have indices of their own")
    return row[0]


def _tables(score_mod: FunctionType) -> list[Tensor]:
    """The tensors that a score_mod holds."""
    return [cell.cell_contents for cell in score_mod.__closure__ or () if isinstance(cell.cell_contents, Tensor)]


def _with_table(score_mod: Any, table: Tensor) -> FunctionType:
    """The same function about another table."""
    contents = [cell.cell_contents for cell in score_mod.__closure__]
    cells = tuple(CellType(table if isinstance(content, Tensor) else content) for content in contents)
    return FunctionType(score_mod.__code__, score_mod.__globals__, score_mod.__name__, score_mod.__defaults__, cells)


def _is_torchs(function: Any) -> bool:
    """FlexAttention, which would compile for a minute, or SDPA, held to a kernel that CPUs do not have."""
    from torch.nn.attention.flex_attention import flex_attention  # slow to import

    return getattr(function, "_torchdynamo_orig_callable", function) in (flex_attention, F.scaled_dot_product_attention)


def _attend(q: Tensor, k: Tensor, v: Tensor, score_mod: Any = None, attn_mask: Any = 0.0, **_: Any) -> Tensor:
    """What those two compute, (windows, heads, N, d) each."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + attn_mask
    if score_mod is not None:
        places = (torch.arange(n, device=q.device) for n in scores.shape)
        scores = score_mod(scores, *(place.view(-1, *[1] * (3 - axis)) for axis, place in enumerate(places)))
    return scores.softmax(-1) @ v


def _index(score_mod: FunctionType, rows: int, tokens: int) -> Tensor:
    """(tokens, tokens): the table row that a score_mod adds for each query and key."""
    probe = _with_table(score_mod, torch.arange(rows, dtype=torch.float64)[None])
    query, key = torch.arange(tokens)[:, None], torch.arange(tokens)[None]
    zero = torch.zeros((), dtype=torch.long)
    try:
        return probe(torch.zeros(tokens, tokens, dtype=torch.float64), zero, zero, query, key).long()
    except Exception as error:  # whatever a third-party function raises, the layer stays as it is
        raise NotExactError(f"its score_mod fails on a test table: {type(error).__name__}: {error}") from error
