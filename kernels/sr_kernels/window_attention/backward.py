"""Launcher of the backward pass of window attention: which kernels, in which order, and the sums between them."""

from collections.abc import Generator

import torch
from torch import Tensor

from sr_kernels.launch import Launch, Steps
from sr_kernels.window_attention import backward_sums, configs
from sr_kernels.window_attention.arguments import Problem, columns, tile_count
from sr_kernels.window_attention.backward_bias import bias_backward
from sr_kernels.window_attention.backward_keys import keys_backward
from sr_kernels.window_attention.backward_queries import queries_backward
from sr_kernels.window_attention.backward_whole import whole_backward
from sr_kernels.window_attention.fast import Gradients
from sr_kernels.window_attention.forward import forward


def backward(
    problem: Problem, grad: Tensor, out: Tensor | None, lse: Tensor | None, *, packed: bool, need_bias: bool
) -> Steps[Gradients]:
    """Gradients of all inputs; that of the bias is None unless `need_bias`.

    `out` and `lse` are what `forward` returned, read where windows are streamed; if None, they are computed anew.
    `packed`: one gradient (B,H,W,3C).
    """
    grad = grad.contiguous()
    if not problem.whole and (out is None or lse is None):
        out, lse = yield from forward(problem)
    maps, targets = _outputs(problem, packed)
    direct = problem.windows.keys_are_queries or (
        problem.windows.keys == problem.windows.key_step and problem.windows.key_offset == (0, 0)
    )
    if not direct:
        for name in ("dk", "dv"):
            targets[name] = grad.new_empty(problem.count, problem.tokens[1], grad.shape[3])
        targets |= {"dk_start": 0, "dv_start": 0, "dk_x": grad.shape[3]}
    steps = _whole if problem.whole else _streaming
    d_bias, d_scale, d_token = yield from steps(
        problem, {"grad": grad, "out": out, "lse": lse} | targets, direct, need_bias
    )
    if not direct:
        for i, name in enumerate(("dk", "dv")):
            yield backward_sums.keys(problem, targets[name], maps, i)
    if d_bias is not None and problem.bias is not None:
        d_bias = yield from backward_sums.bias(problem, problem.bias, d_bias)
    if d_scale is not None and problem.logit_scale is not None:
        d_scale = d_scale.view(-1, problem.heads).sum(0).view_as(problem.logit_scale).to(problem.logit_scale.dtype)
    if d_token is not None and problem.pad_token is not None:
        summed = d_token.view(-1, problem.heads, 2, problem.head_dim).sum(0).transpose(0, 1).flatten()
        d_token = torch.cat([summed.new_zeros(grad.shape[3]), summed]).to(problem.pad_token.dtype)
    elif problem.pad_token is not None:
        d_token = torch.zeros_like(problem.pad_token)
    return Gradients(maps, d_bias, d_scale, d_token)


PARTIAL = ("d_bias", "d_scale", "d_token")
Partial = tuple[Tensor | None, Tensor | None, Tensor | None]


def _whole(problem: Problem, given: dict, direct: bool, need_bias: bool) -> Generator[Launch, None, Partial]:
    by_distance = need_bias and _sums_by_distance(problem)

    def make(config: configs.Config) -> Launch:
        each = config.share(problem, 1)
        groups = -(-problem.count // each)
        sums = _partials(problem, groups if need_bias else 0, groups, groups)
        if by_distance:
            sums["d_bias"] = problem.q.new_empty(groups, 1, problem.heads, 1, 16, 64, dtype=torch.float32)
        own = given | sums | {"windows": problem.count, "per_program": each}
        constants = {"D_BIAS": 2 if by_distance else int(sums["d_bias"] is not None), "DIRECT": direct}
        return problem.launch(whole_backward, groups * problem.heads, config, own, constants)

    launch = configs.best("backward", problem, make)
    yield launch
    return tuple(launch.arguments[name] for name in PARTIAL)  # type: ignore[return-value]


def _streaming(problem: Problem, given: dict, direct: bool, need_bias: bool) -> Generator[Launch, None, Partial]:
    (Nq, Nk), heads, count = problem.tokens, problem.heads, problem.count
    given |= {"delta": torch.empty_like(given["lse"]), "windows": count}

    by_distance = need_bias and _sums_by_distance(problem)

    def queries(config: configs.Config) -> Launch:
        constants = {"STAGES": config.stages, "D_TABLE": by_distance}
        constants["MC"] = 8 if by_distance else columns(problem.windows.size, config.queries)
        constants["KC"] = 8 if by_distance else columns(problem.windows.keys, config.keys)
        tiles = tile_count(problem.windows.size, config.queries, constants["MC"])
        key_tiles = tile_count(problem.windows.keys, config.keys, constants["KC"])
        each = config.share(problem, tiles) if by_distance else 1
        groups = -(-count // each)
        own = given | _partials(problem, 0, groups * tiles, 0) | {"per_program": each}
        if by_distance:
            own["d_bias"] = problem.q.new_empty(groups, tiles, heads, key_tiles, 16, config.keys, dtype=torch.float32)
        return problem.launch(queries_backward, groups * tiles * heads, config, own, constants)

    def keys(config: configs.Config) -> Launch:
        tiles = -(-Nk // config.keys)
        constants = {"STAGES": config.stages, "DIRECT": direct, "MC": columns(problem.windows.size, config.queries)}
        own = given | _partials(problem, 0, 0, count * tiles)
        return problem.launch(keys_backward, count * tiles * heads, config, own, constants)

    def pairs(config: configs.Config) -> Launch:
        tiles = -(-Nq // config.queries) * -(-Nk // config.keys)
        each = config.share(problem, tiles)
        groups = -(-count // each)
        own = given | _partials(problem, groups, 0, 0) | {"per_program": each}
        return problem.launch(bias_backward, groups * tiles * heads, config, own)

    by_query = configs.best("table_backward" if by_distance else "queries_backward", problem, queries)
    yield by_query
    by_key = configs.best("keys_backward", problem, keys)
    yield by_key
    d_bias = by_query.arguments["d_bias"]
    if need_bias and not by_distance:
        by_pair = configs.best("bias_backward", problem, pairs)
        yield by_pair
        d_bias = by_pair.arguments["d_bias"]
    return d_bias, by_query.arguments["d_scale"], by_key.arguments["d_token"]


def _sums_by_distance(problem: Problem) -> bool:
    """Whether the gradient of the bias table is added up in tiles of 8 x 8 tokens, beside that of the queries.

    Not for wide heads and float32: with those in registers, the sums would spill.
    """
    w = problem.windows
    whole_tiles = not any(n % 8 for n in (*w.size, *w.keys)) and w.key_step == w.size and problem.tokens[1] <= 9 * 64
    small = problem.padded_head_dim <= 32 and problem.q.element_size() == 2
    return problem.bias is not None and problem.bias.dim() == 2 and whole_tiles and small


def _partials(problem: Problem, biases: int, scales: int, tokens: int) -> dict[str, Tensor | None]:
    """Memory for what programs sum on their own, as many of each as programs write; None where nothing is summed."""
    heads, d = problem.heads, problem.head_dim

    def empty(wanted: bool, *shape: int) -> Tensor | None:
        return problem.q.new_empty(shape, dtype=torch.float32) if wanted and shape[0] else None

    return {
        "d_bias": empty(problem.bias is not None, biases, heads, *problem.tokens),
        "d_scale": empty(problem.logit_scale is not None, scales, heads),
        "d_token": empty(problem.geometry[11] == 2, tokens, heads, 2, d),
    }


def _outputs(problem: Problem, packed: bool) -> tuple[list[Tensor], dict]:
    """Gradients of the maps, and where in them the kernels write those of q, k and v."""
    C = problem.heads * problem.head_dim
    if packed:
        d_qkv = problem.q.new_empty(*problem.q.shape[:3], 3 * C)
        maps, starts, steps = [d_qkv], (0, C, 2 * C), (3 * C, 3 * C)
    else:
        maps = [t.new_empty(t.shape) for t in (problem.q, problem.k, problem.v)]
        starts, steps = (0, 0, 0), (C, C)
    named = dict(zip(("dq", "dk", "dv"), maps * 3 if packed else maps, strict=True))
    named |= dict(zip(("dq_start", "dk_start", "dv_start"), starts, strict=True))
    return maps, named | dict(zip(("dq_x", "dk_x"), steps, strict=True))
