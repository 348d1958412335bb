"""What this room's tests share: random public blocks, and the comparison of a block with its functional twin.

A twin takes the block's own parameters and submodules and replaces only its attention core (window cut, shift, mask,
bias, softmax) with one call of `K.window_attention` on the unrolled map.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_kernels import functional as K

IMPLS = pytest.mark.parametrize("impl", ["torch", pytest.param("triton", marks=pytest.mark.gpu)])
DEVICES = {"torch": "cpu", "triton": "cuda"}
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
TABLE_STD = 1.5


def public(name: str) -> Any:
    """A public network's module; without it the whole test file is skipped."""
    return pytest.importorskip(name, reason=f"{name} comes with the `zoo` extra: pip install -e '.[zoo]'")


def randomise(module: nn.Module) -> None:
    """Parameters and running statistics far from their initial values: untrained tables hide a transposed bias."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("relative_position_bias_table"):
                parameter.normal_(0, TABLE_STD)
            elif name.endswith("logit_scale"):
                parameter.normal_(math.log(10), 0.5)
            elif parameter.dim() > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            else:
                parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.3)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)


def widen(last: nn.Linear, table: Callable[[], Tensor], std: float = TABLE_STD) -> None:
    """Scale the last layer of a network that computes a bias table, a row per head, so that the table gets this std."""
    with torch.no_grad():
        last.weight *= (std / table().std(0))[:, None]


def randomise_v2(block: Any) -> None:
    """`randomise` for a block of the Swin V2 family, whose table is 16 * sigmoid of what a small network computes."""
    randomise(block)
    widen(block.attn.cpb_mlp[2], lambda: cosine_table(block.attn), 0.5)


def cosine_table(attn: Any) -> Tensor:
    """(rows, heads): the table of Swin V2's attention before the sigmoid."""
    return attn.cpb_mlp(attn.relative_coords_table).flatten(0, 2)


def cosine_attention(attn: Any, x: Tensor, qkv_bias: Tensor, windows: K.Windows, impl: Any) -> Tensor:
    """The attention core of the Swin V2 family on the map x (B,H,W,C): its logit scale is clamped and exponentiated."""
    return K.window_attention(
        F.linear(x, attn.qkv.weight, qkv_bias),
        spread(16 * cosine_table(attn).sigmoid()),
        heads=attn.num_heads,
        windows=windows,
        logit_scale=attn.logit_scale.clamp(max=math.log(100)).exp(),
        pad_token=qkv_bias if windows.outside == "token" else None,
        impl=impl,
    )


def spread(table: Tensor) -> Tensor:
    """A bias table (rows, heads), passed on if each head's entries differ enough to show a wrong place."""
    assert table.std(0).min() >= 1, f"the bias table varies too little to prove anything: {table.std(0).tolist()}"
    return table


def agree(
    module: nn.Module,
    block: Callable[[Tensor], Tensor],
    twin: Callable[[Tensor], Tensor],
    x: Tensor,
    tables: Sequence[nn.Module] = (),
    cancelling: str | None = None,
) -> None:
    """Output, and gradients of x and of every parameter, of `block` and `twin` are the same.

    The error of a tensor is its largest absolute difference over the largest absolute expected value: at most 1e-5 in
    float32 and, on a CPU, 1e-10 in float64. `cancelling` is a part of the names of parameters whose gradients are long
    sums of both signs, of which float32 keeps only the terms' precision: in float32 they are measured by the largest
    gradient of any parameter. `tables` are submodules that compute bias tables: the gradients of their outputs are
    compared in place of those of their parameters, which are zero but for rounding where they shift a whole table.
    """
    module.eval()
    for dtype, tolerance in TOLERANCES.items():
        if dtype == torch.float64 and x.is_cuda:
            continue
        module.to(dtype)
        expected, actual = (_results(module, compute, x.to(dtype), tables) for compute in (block, twin))
        assert expected.keys() == actual.keys()
        largest = max(grad.abs().max().item() for name, grad in expected.items() if name not in ("output", "input"))
        errors = {}
        for name, value in expected.items():
            exempt = cancelling and cancelling in name and dtype == torch.float32
            unit = largest if exempt else value.abs().max().item() or 1.0
            assert value.shape == actual[name].shape
            errors[name] = (actual[name] - value).abs().max().item() / unit
        wrong = {name: error for name, error in errors.items() if not error <= tolerance}
        assert not wrong, f"relative errors in {dtype} above {tolerance}: {wrong}"


def _results(
    module: nn.Module, compute: Callable[[Tensor], Tensor], x: Tensor, tables: Sequence[nn.Module]
) -> dict[str, Tensor]:
    """The output, and by name the gradients of a random projection of it."""
    hidden = {parameter for table in tables for parameter in table.parameters()}
    x = x.clone().requires_grad_()
    leaves = {"input": x, **{name: p for name, p in module.named_parameters() if p not in hidden}}

    def keep(index: int) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, output: leaves.update({f"table {index}": output})

    hooks = [table.register_forward_hook(keep(index)) for index, table in enumerate(tables)]
    out = compute(x)
    for hook in hooks:
        hook.remove()
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype).to(x.device)
    grads = torch.autograd.grad(out, list(leaves.values()), weights)
    return {"output": out.detach(), **dict(zip(leaves, grads, strict=True))}
