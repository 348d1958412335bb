"""The Triton kernels of window attention against a float64 run of the specification.

Runs on a CUDA device (`pytest -m gpu`), or without one in Triton's interpreter, for which test_interpreter.py starts
this file with TRITON_INTERPRET=1. An error may be twice that of the same formula by PyTorch in the same precision.
"""

import math
import os
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.window_attention import op, reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
DTYPES = [torch.float32, torch.float16] if INTERPRETED else [torch.float32, torch.float16, torch.bfloat16]
pytestmark = [] if INTERPRETED else [pytest.mark.gpu]


class Case(NamedTuple):
    shape: tuple[int, int, int]
    windows: K.Windows
    heads: int = 1
    head_dim: int = 30
    form: str = "table"


OCAB = K.Windows(16, keys=24, key_offset=-4, outside="zero")
CASES = {
    "small": Case((1, 8, 16), K.Windows(8), 2, 10),
    "small, shifted": Case((1, 16, 8), K.Windows(8, 4), 2),
    "small, batch of one-window maps": Case((2, 8, 8), K.Windows(8, (3, 5)), 1, 24),
    "49 tokens, rolled then padded": Case((1, 5, 9), K.Windows(7, 3, outside="token"), 2, 32),
    "49 tokens, padded then rolled": Case((1, 5, 9), K.Windows(7, 3, outside="token", order="pad_roll"), 1, 35),
    "map smaller than its shift": Case((1, 1, 2), K.Windows(4, (3, 2), outside="token"), 2, 8),
    "zero padding": Case((1, 6, 9), K.Windows((4, 8), (2, 4), outside="zero", multiple=8, order="pad_roll"), 1, 12),
    "grid": Case((1, 7, 9), K.Windows(8, layout="grid", outside="zero"), 1, 16),
    "small, dense": Case((1, 8, 8), K.Windows(8, 4), 2, 53, "dense"),
    "small, cosine": Case((1, 8, 8), K.Windows(8, 4), 2, 30, "cosine"),
    "no bias": Case((1, 7, 7), K.Windows(7, (0, 3)), 1, 10, "none"),
    "forbidden pairs": Case((1, 8, 8), K.Windows(8, 4, penalty=-math.inf), 1, 32),
    "small, shared keys": Case((2, 8, 4), K.Windows(4, 2, keys=6, key_offset=-1, outside="token"), 2, 8),
    "keys from far": Case((1, 4, 6), K.Windows(2, 1, keys=5, outside="zero"), 1, 8),
    "pixels that are no key": Case((1, 8, 4), K.Windows(4, keys=2, key_offset=1), 1, 8),
    "128 channels a head": Case((1, 4, 4), K.Windows(4), 1, 128),
    "large, shifted": Case((1, 16, 16), K.Windows(16, 8)),
    "large, rectangular": Case((1, 8, 32), K.Windows((8, 32), (4, 16))),
    "large, shared keys": Case((1, 16, 16), OCAB),
    "large, cosine with token": Case((1, 11, 12), K.Windows(12, 6, outside="token"), 1, 12, "cosine"),
    "large, dense": Case((1, 12, 12), K.Windows(12, 6), 2, 8, "dense"),
    "large, no bias": Case((1, 12, 12), K.Windows(12, (0, 5)), 1, 8, "none"),
    "large, forbidden pairs": Case((1, 12, 12), K.Windows(12, (6, 0), penalty=-math.inf), 1, 8),
}
LARGE_MAPS = {
    "SwinIR": Case((2, 40, 56), K.Windows(8, 4), 6, 30),
    "SwinIR-light": Case((2, 40, 56), K.Windows(8, 4), 6, 10),
    "Swin": Case((2, 45, 50), K.Windows(7, 3, outside="token"), 3, 32),
    "Swin2SR": Case((1, 64, 64), K.Windows(8, 4), 6, 30, "cosine"),
    "HAT": Case((1, 64, 48), K.Windows(16, 8), 6, 30),
    "HAT OCAB": Case((1, 64, 48), OCAB, 6, 30),
    "DAT": Case((1, 50, 64), K.Windows((8, 32), (4, 16), outside="zero", multiple=32, order="pad_roll"), 3, 30),
    "DAT, upright": Case((1, 64, 64), K.Windows((32, 8), (16, 4)), 3, 30),
    "ESC": Case((1, 64, 64), K.Windows(32), 2, 16),
    "DRCT": Case((1, 32, 32), K.Windows(16, 8), 2, 122),
    "24 x 24": Case((1, 48, 48), K.Windows(24, 12), 2, 10),
}


def inputs(case: Case, dtype: torch.dtype, size: float = 1.0) -> dict[str, Tensor]:
    """Everything differentiable, as leaves: maps "q", "k", "v" or "qkv", then what else the case has."""
    generator = torch.Generator().manual_seed(0)
    w, heads, d = case.windows, case.heads, case.head_dim

    def random(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) * size).to(DEVICE, dtype).requires_grad_()

    B, H, W = case.shape
    given = {"qkv": random(B, H, W, 3 * heads * d)}
    if w.key_step != w.size:
        low = (B, H * w.key_step[0] // w.size[0], W * w.key_step[1] // w.size[1], heads, d)
        given = {"q": random(B, H, W, heads, d), "k": random(*low), "v": random(*low)}
    if case.form == "dense":
        given["bias"] = random(heads, *w.tokens)
    elif case.form != "none":
        given["bias"] = random(w.table_rows, heads)
    if case.form == "cosine":
        given["logit_scale"] = random(heads)
    if w.outside == "token":
        given["pad_token"] = random(3 * heads * d)
    return given


def call(given: dict[str, Tensor], case: Case, impl: str, **options: object) -> Tensor:
    rest = dict(given)
    qkv = rest.pop("qkv") if "qkv" in rest else tuple(rest.pop(name) for name in "qkv")
    return K.window_attention(qkv, **rest, heads=case.heads, windows=case.windows, impl=impl, **options)  # type: ignore[arg-type]


def eager(given: dict[str, Tensor], case: Case) -> Tensor:
    """The specification's formula with every step in the precision of its inputs, as networks write it."""
    rest = dict(given)
    if "qkv" in rest:
        q, k, v = rest.pop("qkv").unflatten(3, (3, case.heads, -1)).unbind(3)
    else:
        q, k, v = (rest.pop(name) for name in "qkv")
    bias, logit_scale, token = (rest.get(name) for name in ("bias", "logit_scale", "pad_token"))
    B, H, W, heads, d = q.shape
    rows, columns = case.windows.axes(H, W)
    at = [(a.query_positions(q.device), a.key_positions(q.device)) for a in (rows, columns)]
    outside = (None, None) if token is None else token.view(3, heads, d)[1:]
    queries = reference._gather(q, at[0][0], at[1][0], None)
    keys, values = (reference._gather(x, at[0][1], at[1][1], o) for x, o in zip((k, v), outside, strict=True))
    if logit_scale is not None:
        queries, keys = (reference.normalize(x.float()).to(x.dtype) for x in (queries, keys))
        queries = queries * logit_scale.view(heads, 1)
    else:
        queries = queries * d**-0.5
    scores = torch.einsum("bwnhd,bwmhd->bwhnm", queries, keys)
    if bias is not None:
        scores = scores + reference.dense_bias(bias, case.windows)
    if any(case.windows.shift) and case.windows.penalty:
        apart = reference.seam_between(case.windows, H, W, q.device)
        scores = torch.where(apart, scores + case.windows.penalty, scores)
    out = torch.einsum("bwhnm,bwmhd->bwnhd", scores.softmax(-1), values).flatten(3).flatten(1, 2)
    position = reference._flat_positions(at[0][0], at[1][0], W).flatten()
    position = torch.where(position < 0, H * W, position)
    return out.new_zeros(B, H * W + 1, heads * d).index_copy(1, position, out)[:, :-1].unflatten(1, (H, W))


def results(out: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The output and the gradient of everything given."""
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return {"out": out, **dict(zip(given, torch.autograd.grad(out, list(given.values()), pull), strict=True))}


def ours(given: dict[str, Tensor], case: Case, **options: object) -> dict[str, Tensor]:
    """With every byte of fresh memory a NaN, so that nothing unwritten goes unseen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        return results(call(given, case, "triton", **options), given)
    finally:
        torch.use_deterministic_algorithms(False)


def check(given: dict[str, Tensor], case: Case, dtype: torch.dtype, **options: object) -> None:
    exact = {name: t.detach().double().requires_grad_() for name, t in given.items()}
    expected = results(call(exact, case, "reference"), exact)
    peer, actual = results(eager(given, case), given), ours(given, case, **options)
    unit = torch.finfo(dtype).eps * (2 if dtype == torch.float32 and not INTERPRETED else 1)  # 2: three tf32 products
    for name, want in expected.items():
        allowed = 2 * (peer[name].double() - want).abs().max() + 2 * unit * want.abs().max() + 1e-30
        assert actual[name].dtype == dtype
        error = (actual[name].double() - want).abs().max()
        assert error <= allowed, f"{name}: error {error:.2e}, allowed {allowed:.2e}"


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("name", CASES)
def test_family(name, dtype):
    check(inputs(CASES[name], dtype), CASES[name], dtype)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_keys_of_lower_resolution(large):
    windows = K.Windows(24, 12, key_step=12, penalty=0) if large else K.Windows(8, 4, key_step=4, penalty=0)
    case = Case((1, *windows.size), windows, 1, 10)
    check(inputs(case, torch.float32), case, torch.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("name", LARGE_MAPS)
def test_networks_at_size(name, dtype):
    check(inputs(LARGE_MAPS[name], dtype), LARGE_MAPS[name], dtype)


@pytest.mark.parametrize("name", ["small, shifted", "large, shifted", "small, cosine"])
def test_extreme_logits(name):
    """Logits of about +-1e4: the softmax picks single keys, and nothing overflows."""
    case = CASES[name]
    given = inputs(case, torch.float32)
    if case.form == "cosine":
        given["logit_scale"] = (given["logit_scale"].detach() * 1e4).requires_grad_()
    else:
        given = {n: (t.detach() * (60 if n == "qkv" else 1e4)).requires_grad_() for n, t in given.items()}
    expected = call({n: t.detach().double() for n, t in given.items()}, case, "reference")
    out = call(given, case, "triton")
    # Sums of a few terms near 1e4 are off by 1e-3, and so is the weight of keys that close to the winner.
    assert (out.double() - expected).abs().max() <= 1e-2 * expected.abs().max()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), list(given.values())))


@pytest.mark.parametrize("name", ["small", "large, no bias"])
def test_strided_maps(name):
    """Separate q, k, v with channels far apart (B, C, H, W), and a slice that begins at an odd place."""
    case = CASES[name]
    given = inputs(case, torch.float32)
    q, k, v = given["qkv"].detach().unflatten(3, (3, case.heads, case.head_dim)).unbind(3)
    apart = [t.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2) for t in (q, k, v)]
    roomy = torch.randn(*case.shape, 3 * case.heads * case.head_dim + 7, device=DEVICE)[..., 5:-2]
    roomy.copy_(given["qkv"].detach())
    expected = ours(given, case)
    rest = {n: t for n, t in given.items() if n != "qkv"}
    separate = ours({**dict(zip("qkv", (t.requires_grad_() for t in apart), strict=True)), **rest}, case)
    shifted = ours({"qkv": roomy.requires_grad_(), **rest}, case)
    torch.testing.assert_close(separate["out"], expected["out"], rtol=0, atol=0)
    torch.testing.assert_close(shifted["out"], expected["out"], rtol=0, atol=0)
    packed = torch.stack([separate[n] for n in "qkv"], 3).flatten(3)
    torch.testing.assert_close(packed, expected["qkv"], rtol=0, atol=0)
    torch.testing.assert_close(shifted["qkv"], expected["qkv"], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["small, shifted", "large, shared keys", "49 tokens, rolled then padded"])
def test_repeats_bit_for_bit(name):
    given = inputs(CASES[name], torch.float32)
    first, second = (ours(given, CASES[name]) for _ in range(2))
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_frozen_bias_gets_no_gradient():
    for name in ("small, shifted", "large, dense"):
        given = inputs(CASES[name], torch.float32)
        expected = ours(given, CASES[name])["qkv"]
        given["bias"].requires_grad_(False)
        out = call(given, CASES[name], "triton")
        pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
        assert torch.equal(torch.autograd.grad(out, given["qkv"], pull)[0], expected)


def test_empty_batch():
    got = results(
        call(given := inputs(case := Case((0, 24, 24), K.Windows(12), 2, 8), torch.float32), case, "triton"), given
    )
    assert got["out"].shape == (0, 24, 24, 16)
    assert not got["bias"].any()


@pytest.mark.parametrize("precision", ["tf32x3", "tf32", "ieee"])
@pytest.mark.parametrize("name", ["small, shifted", "large, shifted"])
def test_precision_of_float32(name, precision):
    case = CASES[name]
    given = inputs(case, torch.float32)
    if precision != "tf32" or INTERPRETED:
        check(given, case, torch.float32, precision=precision)
        return
    exact = results(call(given, case, "reference"), given)
    coarse = ours(given, case, precision=precision)
    worst = max(float((coarse[n] - exact[n]).abs().max() / exact[n].abs().max()) for n in exact)
    assert 1e-6 < worst < 5e-3  # ten bits of mantissa, and no fewer


def test_half_precision_beside_a_float32_table():
    given = inputs(CASES["small, shifted"], torch.float16)
    given["bias"] = given["bias"].detach().float().requires_grad_()
    got = ours(given, CASES["small, shifted"])
    assert (got["out"].dtype, got["qkv"].dtype, got["bias"].dtype) == (torch.float16, torch.float16, torch.float32)


@pytest.mark.parametrize("name", ["small", "large, no bias"])
def test_operators_are_registered_properly(name):
    case = CASES[name]
    given = inputs(case, torch.float32)
    numbers = (case.heads, 0.5, *case.windows.encode(), case.windows.penalty, "auto", "triton")
    called = ([given["qkv"]], given.get("bias"), None, None, *numbers, True)
    torch.library.opcheck(op.window_attention, called)
    with torch.no_grad():
        out, lse = op.window_attention(*called)
    plain = ([given["qkv"].detach()], given["bias"].detach() if "bias" in given else None, None, None)
    torch.library.opcheck(
        op.window_attention_backward, (torch.randn_like(out), out, lse, *plain, *numbers, "bias" in given)
    )


@pytest.mark.parametrize("name", ["small", "large, no bias"])
def test_compiles_as_a_whole_with_gradients(name):
    torch.compiler.reset()
    case = CASES[name]
    given = inputs(case, torch.float32)

    def function(given: dict[str, Tensor]) -> Tensor:
        return call(given, case, "triton").sin()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager" if INTERPRETED else "inductor")
    expected, actual = results(function(given), given), results(compiled(given), given)
    for n in expected:
        torch.testing.assert_close(actual[n], expected[n])


@pytest.mark.gpu
def test_map_beyond_32_bit_offsets():
    """A 4K frame: 129,600 windows, and more than 2^31 numbers."""
    qkv = torch.randn(1, 2160, 3840, 3 * 180, device=DEVICE, dtype=torch.float16)
    given = {"bias": torch.randn(225, 6, device=DEVICE), "heads": 6, "windows": K.Windows(8, 4)}
    out = K.window_attention(qkv, **given, impl="triton")
    inner = K.window_attention(qkv[:, -16:, -16:].contiguous(), **given, impl="torch")
    torch.testing.assert_close(out[:, -12:-4, -12:-4], inner[:, 4:12, 4:12], rtol=2e-3, atol=2e-3)
