"""window_attention: fast path and exported composition against the specification, gradients, precision, errors."""

import math

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.window_attention import export, fast

HEADS, HEAD_DIM = 2, 5
C = HEADS * HEAD_DIM
CASES = {
    "plain": ((2, 8, 12), K.Windows(4)),
    "shifted": ((2, 8, 12), K.Windows(4, 2)),
    "one axis shifted": ((1, 8, 16), K.Windows((4, 8), (0, 4))),
    "one window": ((1, 4, 4), K.Windows(4, (2, 1))),
    "zero padding": ((1, 9, 7), K.Windows(4, (2, 1), outside="zero")),
    "token, roll first": ((2, 9, 7), K.Windows(4, (2, 1), outside="token")),
    "token, pad first": ((2, 9, 7), K.Windows(4, (2, 1), outside="token", order="pad_roll")),
    "smaller than a window": ((1, 1, 2), K.Windows(4, (3, 2), outside="token")),
    "smaller, pad first": ((1, 1, 2), K.Windows(4, (3, 2), outside="token", order="pad_roll")),
    "padded further": ((1, 5, 9), K.Windows((4, 8), (2, 4), outside="zero", multiple=8, order="pad_roll")),
    "grid": ((1, 8, 12), K.Windows(4, layout="grid")),
    "grid with token": ((1, 7, 9), K.Windows(4, layout="grid", outside="token")),
    "no penalty": ((1, 8, 8), K.Windows(4, 2, penalty=0)),
    "forbidden": ((1, 8, 8), K.Windows(4, 2, penalty=-math.inf)),
    "overlapping keys": ((2, 8, 8), K.Windows(4, keys=6, key_offset=-1, outside="zero")),
    "overlapping keys with token": ((1, 8, 8), K.Windows(4, 2, keys=6, key_offset=-1, outside="token")),
    "fewer keys": ((1, 8, 8), K.Windows(4, keys=2, key_offset=1)),
    "keys far behind": ((1, 8, 12), K.Windows(2, 1, keys=5, outside="zero")),
}
FORMS = ["table", "dense", "cosine"]


def inputs(shape: tuple[int, int, int], windows: K.Windows, form: str, dtype=torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    given = {"qkv": random(*shape, 3 * C)}
    given["bias"] = random(HEADS, *windows.tokens) if form == "dense" else random(windows.table_rows, HEADS)
    if form == "cosine":
        given["logit_scale"] = random(HEADS)
    if windows.outside == "token":
        given["pad_token"] = random(3 * C)
    return given


def run(given: dict[str, Tensor], windows: K.Windows, impl: str) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output and the gradients of everything given."""
    out = K.window_attention(**given, heads=HEADS, windows=windows, impl=impl)  # type: ignore[arg-type]
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out.dtype)
    return out, torch.autograd.grad(out, list(given.values()), pull)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_fast_path_is_the_specification(case, form, poisoned):
    shape, windows = CASES[case]
    given = inputs(shape, windows, form)
    expected, actual = (run(given, windows, impl) for impl in ("reference", "torch"))
    torch.testing.assert_close(actual[0], expected[0], rtol=0, atol=1e-12)
    for name, got, want in zip(given, actual[1], expected[1], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_exported_composition_is_the_specification(case, form):
    shape, windows = CASES[case]
    given = inputs(shape, windows, form)
    q, k, v = given.pop("qkv").unflatten(3, (3, HEADS, HEAD_DIM)).unbind(3)
    rest = (given["bias"], given.get("logit_scale"), given.get("pad_token"), windows, HEAD_DIM**-0.5)
    expected = K.window_attention(
        (q, k, v), *rest[:1], heads=HEADS, windows=windows, logit_scale=rest[1], pad_token=rest[2], impl="reference"
    )
    torch.testing.assert_close(export.window_attention(q, k, v, *rest), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("impl", ["reference", "torch"])
@pytest.mark.parametrize("case", ["token, pad first", "overlapping keys with token"])
def test_gradient_of_every_input(case, impl):
    shape, windows = CASES[case]
    given = inputs(shape, windows, "cosine")

    def function(*values: Tensor) -> Tensor:
        named = dict(zip(given, values, strict=True))
        return K.window_attention(**named, heads=HEADS, windows=windows, impl=impl)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(function, tuple(given.values()), fast_mode=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scores", [1, 2**10], ids=["streaming forward, one window a chunk", "two windows a chunk"])
def test_chunks_change_nothing(monkeypatch, form, scores):
    shape, windows = CASES["shifted"]
    given = inputs(shape, windows, form)
    out, grads = run(given, windows, "torch")
    monkeypatch.setitem(fast.CHUNK, "cpu", scores)
    again, chunked = run(given, windows, "torch")
    torch.testing.assert_close(again, out, rtol=0, atol=1e-12)
    for got, want in zip(chunked, grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("impl", ["reference", "torch"])
def test_separate_strided_maps(impl):
    windows = K.Windows(4, 2)
    packed = torch.randn(2, 8, 8, 3 * C, dtype=torch.float64, requires_grad=True)
    q, k, v = packed.unflatten(3, (3, HEADS, HEAD_DIM)).unbind(3)
    k = k.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)
    outs = [K.window_attention(qkv, heads=HEADS, windows=windows, impl=impl) for qkv in (packed, (q, k, v))]
    grads = [torch.autograd.grad(out.sin().sum(), packed)[0] for out in outs]
    torch.testing.assert_close(outs[1], outs[0], rtol=0, atol=1e-13)
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-12)


def test_keys_of_lower_resolution():
    windows = K.Windows(4, 2, key_step=2)
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, n, n, HEADS, HEAD_DIM, generator=generator, dtype=torch.float64) for n in (8, 4, 4)]
    table = torch.randn(windows.table_rows, HEADS, generator=generator, dtype=torch.float64)
    given = [t.requires_grad_() for t in (*maps, table)]
    results = []
    for impl in ("reference", "torch"):
        out = K.window_attention(tuple(given[:3]), given[3], heads=HEADS, windows=windows, impl=impl)  # type: ignore[arg-type]
        results.append((out, *torch.autograd.grad(out.sin().sum(), given)))
    for got, want in zip(*reversed(results), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, 2**-24), (torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_error_of_low_precision(dtype, unit, form):
    """At most a few roundings of the largest value: outputs are averages of v, gradients sums over 16 keys."""
    shape, windows = CASES["shifted"]
    given = inputs(shape, windows, form, dtype)
    exact = {name: value.detach().double().requires_grad_() for name, value in given.items()}
    (expected, wanted), (actual, grads) = run(exact, windows, "reference"), run(given, windows, "torch")
    assert actual.dtype == dtype
    for got, want in zip((actual, *grads), (expected, *wanted), strict=True):
        assert (got.double() - want).abs().max() <= 16 * unit * want.abs().max()


def test_float32_table_beside_half_precision_maps():
    shape, windows = CASES["shifted"]
    given = inputs(shape, windows, "table", torch.bfloat16)
    given["bias"] = given["bias"].detach().float().requires_grad_()
    out, (d_qkv, d_table) = run(given, windows, "torch")
    assert (out.dtype, d_qkv.dtype, d_table.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)


def test_autocast_changes_nothing():
    given = inputs((1, 8, 8), K.Windows(4), "cosine", torch.float32)
    plain = run(given, K.Windows(4), "torch")
    with torch.autocast("cpu", torch.bfloat16):
        cast = run(given, K.Windows(4), "torch")
    assert torch.equal(cast[0], plain[0])
    assert all(torch.equal(a, b) for a, b in zip(cast[1], plain[1], strict=True))


def test_zero_vectors_have_finite_cosine_gradients():
    qkv = torch.zeros(1, 4, 4, 3 * C, requires_grad=True)
    out = K.window_attention(qkv, heads=HEADS, windows=4, logit_scale=torch.ones(HEADS))
    assert torch.autograd.grad(out.sum(), qkv)[0].isfinite().all()


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"qkv": torch.zeros(1, 8, 8, 31)}, ValueError, "3 \\* heads \\* head_dim with heads=2, got 31"),
        ({"qkv": torch.zeros(8, 8, 30)}, ValueError, r"4 dimensions \[B H W 3C\]"),
        ({"qkv": torch.zeros(1, 8, 8, 30, dtype=torch.int32)}, TypeError, "float16"),
        ({"qkv": "map"}, TypeError, "packed tensor or a tuple"),
        ({"qkv": torch.zeros(1, 9, 8, 30)}, ValueError, "map of 9x8 reach outside"),
        ({"windows": K.Windows(4, keys=6, key_offset=-1)}, ValueError, "reach outside"),
        ({"windows": K.Windows(4, key_step=2)}, ValueError, "needs qkv as a tuple"),
        ({"windows": "8"}, TypeError, "int or a Windows"),
        ({"heads": 0}, ValueError, "heads must be at least 1"),
        ({"bias": torch.zeros(48, 2)}, ValueError, r"must be \(49, 2\)"),
        ({"bias": torch.zeros(2, 16, 9)}, ValueError, r"must be \(2, 16, 16\)"),
        ({"bias": torch.zeros(49)}, TypeError, "table"),
        ({"logit_scale": torch.ones(3)}, ValueError, "one number per head"),
        ({"logit_scale": torch.ones(2), "scale": 1.0}, ValueError, "not both"),
        ({"pad_token": torch.zeros(30)}, ValueError, "outside='token'"),
        ({"windows": K.Windows(4, outside="token")}, ValueError, "pad_token goes with"),
        ({"windows": K.Windows(4, outside="token"), "pad_token": torch.zeros(10)}, ValueError, "3C"),
        ({"precision": "fp8"}, ValueError, "precision must be one of auto"),
        ({"impl": "cuda"}, ValueError, "impl must be one of"),
        ({"qkv": (torch.zeros(1, 8, 8, 2, 5),) * 2 + (torch.zeros(1, 8, 4, 2, 5),)}, ValueError, "k, v one shape"),
        ({"qkv": (torch.zeros(1, 8, 8, 2, 5),) + (torch.zeros(1, 4, 8, 2, 5),) * 2}, ValueError, "on axis 1, got 4"),
    ],
)
def test_errors_say_what_to_do(given, kind, message):
    arguments = {"qkv": torch.zeros(1, 8, 8, 30), "heads": 2, "windows": 4} | given
    with pytest.raises(kind, match=message):
        K.window_attention(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"size": 4, "shift": 4}, "shift must be >= 0 and < size"),
        ({"size": 4, "key_step": 3}, "must divide size"),
        ({"size": 4, "shift": 1, "key_step": 2}, "whole number of key pixels"),
        ({"size": 4, "multiple": 6}, "multiple of size"),
        ({"size": 4, "shift": 1, "layout": "grid"}, "layout='grid'"),
        ({"size": 4, "outside": "reflect"}, "outside must be one of error, zero, token"),
        ({"size": 4, "penalty": 1.0}, "penalty must be <= 0"),
        ({"size": (4, 4, 4)}, "pair of ints"),
    ],
)
def test_contradictory_windows(arguments, message):
    with pytest.raises(ValueError, match=message):
        K.Windows(**arguments)


def test_equal_windows_are_equal():
    assert K.Windows(8, 4) == K.Windows((8, 8), (4, 4), keys=8, key_step=(8, 8))
    assert hash(K.Windows(8)) == hash(K.Windows((8, 8)))
    assert K.Windows(16, keys=24, key_offset=-4, outside="zero").table_rows == 39**2
    assert K.Windows(24, key_step=12).table_rows == 23**2
