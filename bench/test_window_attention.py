"""window_attention beside what the public modules do, SDPA, torch.compile and FlexAttention.

    pytest bench/test_window_attention.py --benchmark-only -s

Timed is what lies between the qkv Linear and the proj Linear, window work included and the Linears excluded; see
`window_attention_peers`. torch.compile and FlexAttention take part on one large map of a GPU only, unless
SR_BENCH_FULL=1. Memory is what one call allocates at most, its result included; qkv lies there all the time. In
training a peer whose windows are cut before the qkv Linear also keeps the cut input, which that Linear would save; ours
has it in the map that the layer before it made.

Targets on an H100 in bfloat16, 256x256: times as fast as eager forward, as eager forward + backward, as compiled
forward: SwinIR-light 12, 9, 6; SwinIR 6.5, 6, 3.5; HAT 10, 7, 5; OCAB 9, 7, 4. On 2 CPU cores, 128x128: forward 1.2
unshifted and 1.5 shifted, training 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import clock, devices
from bench.devices import FULL, SMOKE, place
from bench.race import Case, Measured
from bench.window_attention_peers import Eager, Flex, Geometry, Peer, Sdpa, peer
from sr_kernels import functional as K

OURS = "ours"
# Wide, since eager rounds the scores and adds the table's gradient up in half precision (2 % in bfloat16 for OCAB). A
# wrong place in a table or a window is off by the order of 1; exactness is proven in tests/kernels, against float64.
TOLERANCE = {torch.bfloat16: 0.08, torch.float16: 0.01, torch.float32: 1e-3}
BIG, SMALL, CPU = (16, 16, 16) if SMOKE else (256, 64, 128)


@dataclass(frozen=True)
class Network:
    channels: int
    heads: int
    windows: K.Windows
    form: str = "swin"


NETWORKS = {
    "SwinIR-light": Network(60, 6, K.Windows(8, 4)),
    "SwinIR": Network(180, 6, K.Windows(8, 4)),
    "SwinIR, unshifted": Network(180, 6, K.Windows(8)),
    "SwinIR-light, unshifted": Network(60, 6, K.Windows(8)),
    "HAT": Network(180, 6, K.Windows(16, 8)),
    "OCAB": Network(180, 6, K.Windows(16, keys=24, key_offset=-4, outside="zero"), form="overlapping"),
    "DAT-8x32": Network(90, 3, K.Windows((8, 32), (4, 16)), form="dat"),
}
HEADLINES = {"cuda": ("SwinIR-light", "SwinIR", "HAT", "OCAB"), "cpu": ("SwinIR-light", "SwinIR")}


def cases() -> list[Any]:
    """device, network, side, batch, dtype, training."""
    found = []
    for training in (False, True):
        kind = "training" if training else "forward"
        for name in ("SwinIR-light", "SwinIR", "SwinIR-light, unshifted", "SwinIR, unshifted", "HAT"):
            row = ("cpu", name, CPU, 1, torch.float32, training)
            found.append(devices.case(*row[:1], *row, id=f"{name}-{CPU}-{kind}", quick=name == "SwinIR-light"))
        shapes = [(BIG, 1, torch.bfloat16), (SMALL, 1, torch.bfloat16), (SMALL, 16, torch.bfloat16)]
        for name in ("SwinIR-light", "SwinIR", "HAT", "OCAB", "DAT-8x32"):
            extra = [(BIG, 1, torch.float32), (BIG, 1, torch.float16)] if name == "SwinIR" else []
            for side, batch, dtype in shapes + extra:
                row = ("cuda", name, side, batch, dtype, training)
                label = f"{name}-{side}-b{batch}-{str(dtype)[6:]}-{kind}"
                quick = name == "SwinIR-light" and (side, batch) == (BIG, 1)
                found.append(devices.case("cuda", *row, id=label, quick=quick))
    return found


@dataclass(frozen=True)
class Inputs:
    """Maps on the device: what the Linears would have written, and the gradients that come back."""

    x: Tensor
    qkv: Tensor
    cut: Tensor  # qkv as the peers take it
    table: Tensor
    pull: Tensor
    pull_cut: Tensor

    @classmethod
    def draw(
        cls, network: Network, geometry: Geometry, batch: int, dtype: torch.dtype, where: str, training: bool
    ) -> "Inputs":
        torch.manual_seed(0)
        shape, C = (batch, geometry.height, geometry.width), network.channels

        def randn(*size: int, grad: bool = False) -> Tensor:
            return torch.randn(*size, device=where).to(dtype).requires_grad_(training and grad)

        x, qkv = randn(*shape, C, grad=True), randn(*shape, 3 * C, grad=True)
        cut = geometry.gather(qkv.detach()).requires_grad_(training) if network.form == "swin" else qkv
        # Bias tables of trained networks are small numbers; a standard deviation of 1 shows a bias read elsewhere.
        table = randn(network.windows.table_rows, network.heads, grad=True)
        return cls(x, qkv, cut, table, randn(*shape, C), geometry.gather(randn(*shape, C)))


def peers_of(network: Network, geometry: Geometry, dtype: torch.dtype, where: str, everyone: bool) -> dict[str, Peer]:
    def make(kind: type[Eager]) -> Peer:
        return peer(network.form, kind, geometry, device=where, dtype=dtype)

    peers = {"eager": make(Eager), "sdpa": make(Sdpa)}
    return {**peers, "compile": make(Eager).compiled(), "flex": make(Flex).compiled()} if everyone else peers


def contestants(
    network: Network, peers: dict[str, Peer], data: Inputs, impl: Any, training: bool
) -> dict[str, clock.Call]:
    """Each returns (result,), or in training the gradients of (qkv, table)."""

    def run_peer(peer: Peer) -> tuple[Tensor, ...]:
        out, windows = peer(data.x, data.cut, data.table)
        if not training:
            return (out,)
        if windows is None:
            return torch.autograd.grad(out, (data.cut, data.table), data.pull)
        pulls = (data.pull, data.pull_cut)
        return torch.autograd.grad((out, windows), (data.cut, data.table, data.x), pulls)[:2]

    def run_ours() -> tuple[Tensor, ...]:
        out = K.window_attention(data.qkv, data.table, heads=network.heads, windows=network.windows, impl=impl)
        return torch.autograd.grad(out, (data.qkv, data.table), data.pull) if training else (out,)

    return {**{name: partial(run_peer, peer) for name, peer in peers.items()}, OURS: run_ours}


def work(network: Network, pixels: int, dtype: torch.dtype, training: bool) -> dict[str, Any]:
    """Bytes: qkv read, the output written; for gradients qkv, the output and its gradient read again, dqkv written,
    and the same of the forward pass. Operations: two products forward, five backward."""
    keys = network.windows.tokens[1]
    return {
        "moved": (12 if training else 4) * pixels * network.channels * dtype.itemsize,
        "flops": (7 if training else 2) * 2 * pixels * keys * network.channels,
    }


def measure(
    race: Callable[..., Measured],
    case: Case,
    name: str,
    size: tuple[int, int, int],
    dtype: torch.dtype,
    everyone: bool,
    warm: bool = False,
) -> None:
    network, (batch, height, width), where = NETWORKS[name], size, place(case.device)
    geometry = Geometry(network.heads, network.windows, height, width)
    data = Inputs.draw(network, geometry, batch, dtype, where, case.training)
    peers = peers_of(network, geometry, dtype, where, everyone)
    runs = contestants(network, peers, data, devices.impl(case.device), case.training)

    def checked(contestant: str, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if case.training and contestant != OURS and network.form == "swin":
            return geometry.scatter(result[0]), result[1]
        return result

    notes: dict[str, Any] = {}
    if warm and where == "cuda" and not devices.COMPILE_ONLY:
        with torch.set_grad_enabled(case.training):
            back_to_back = {key: clock.launch_to_launch(call, where) for key, call in runs.items()}
            back_to_back[f"{OURS}, CUDA graph"] = clock.graph_replay(runs[OURS], where) or float("nan")
        notes["back to back, ms"] = {key: round(1e3 * seconds, 4) for key, seconds in back_to_back.items()}
    race(case, runs, tolerance=TOLERANCE[dtype], checked=checked, notes=notes)


@pytest.mark.parametrize(("device", "name", "side", "batch", "dtype", "training"), cases())
def test_window_attention(race, device, name, side, batch, dtype, training):
    torch._dynamo.reset()
    network = NETWORKS[name]
    side = max(side, *network.windows.size)
    case = Case(
        "window_attention",
        f"{name} {side}x{side} batch {batch}",
        kind="forward + backward" if training else "forward",
        dtype=str(dtype)[6:],
        device=device,
        headline=(side, batch) in ((BIG, 1), (CPU, 1)) and name in HEADLINES[device] and dtype != torch.float16,
        **work(network, batch * side * side, dtype, training),
    )
    everyone = FULL or (place(device) == "cuda" and side >= BIG and dtype is torch.bfloat16 and batch == 1)
    measure(race, case, name, (batch, side, side), dtype, everyone, warm=(side, batch) == (SMALL, 1))


SIDES = [16, 32] if SMOKE else [64, 128, 256, 512, 1024, 2048, 4096]


@pytest.mark.parametrize(
    ("device", "side"),
    [devices.case("cpu", "cpu", side, id=f"{side}") for side in SIDES if side <= 1024]
    + [devices.case("cuda", "cuda", side, id=f"{side}") for side in SIDES],
)
def test_growth(race, device, side):
    """Forward of SwinIR-light's attention as the picture grows."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    case = Case(
        "window_attention",
        f"growth: SwinIR-light {side}x{side}",
        dtype=str(dtype)[6:],
        device=device,
        series="window_attention, SwinIR-light",
        side=side,
        **work(NETWORKS["SwinIR-light"], side * side, dtype, False),
    )
    measure(race, case, "SwinIR-light", (1, side, side), dtype, everyone=False)
