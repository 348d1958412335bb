"""window_attention on a GPU beside what the public modules do, torch.compile of that, SDPA and FlexAttention.

`PYTHONPATH=.:kernels python3 -m pytest bench/test_window_attention_gpu.py --benchmark-only -s`; the last table stands
against the targets. torch.compile and FlexAttention are timed on one 256x256 map only, unless SR_BENCH_FULL=1.

Timed is what lies between the qkv Linear and the proj Linear, window work included and the Linears excluded; see
`window_attention_peers`. Memory is what one call allocates at most, its result included. In inference "core memory"
adds qkv, which lies there all the time. In training a peer whose windows are cut before the qkv Linear also keeps the
cut input, which that Linear would save; ours has it in the map that the layer before it made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import gpu
from bench.window_attention_peers import Eager, Flex, Geometry, Peer, Sdpa, peer
from sr_kernels import functional as K

if reason := gpu.obstacle():
    pytest.skip(reason, allow_module_level=True)

OURS, IMPL = "ours", "torch" if gpu.SMOKE else "triton"
# Wide, since eager rounds the scores and adds the table's gradient up in half precision (2 % in bfloat16 for OCAB). A
# wrong place in a table or a window is off by the order of 1; exactness is proven in tests/kernels, against float64.
TOLERANCE = {torch.bfloat16: 0.08, torch.float16: 0.01, torch.float32: 1e-3}
BIG, SMALL = (16, 8) if gpu.SMOKE else (256, 64)
SHAPES = [(BIG, 1), (BIG, 2)] if gpu.SMOKE else [(BIG, 1), (SMALL, 1), (SMALL, 16), (BIG, 16)]


@dataclass(frozen=True)
class Network:
    channels: int
    heads: int
    windows: K.Windows
    form: str = "swin"
    targets: str = "no target"  # eager forward, eager forward + backward, compiled forward, core memory in inference


NETWORKS = {
    "SwinIR-light": Network(60, 6, K.Windows(8, 4), targets="12x 9x 6x 3.8x"),
    "SwinIR": Network(180, 6, K.Windows(8, 4), targets="6.5x 6x 3.5x 2x"),
    "HAT": Network(180, 6, K.Windows(16, 8), targets="10x 7x 5x 4.6x"),
    "OCAB": Network(
        180, 6, K.Windows(16, keys=24, key_offset=-4, outside="zero"), form="overlapping", targets="9x 7x 4x 10x"
    ),
    "DAT-8x32": Network(90, 3, K.Windows((8, 32), (4, 16)), form="dat"),
}

CASES = [(name, side, batch, torch.bfloat16) for name in NETWORKS for side, batch in SHAPES]
CASES += [("SwinIR", BIG, 1, torch.float32), ("SwinIR", BIG, 1, torch.float16)]


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
    def draw(cls, network: Network, geometry: Geometry, batch: int, dtype: torch.dtype, training: bool) -> "Inputs":
        torch.manual_seed(0)
        shape, C = (batch, geometry.height, geometry.width), network.channels

        def randn(*size: int, grad: bool = False) -> Tensor:
            return torch.randn(*size, device=gpu.DEVICE).to(dtype).requires_grad_(training and grad)

        x, qkv = randn(*shape, C, grad=True), randn(*shape, 3 * C, grad=True)
        cut = geometry.gather(qkv.detach()).requires_grad_(training) if network.form == "swin" else qkv
        # Bias tables of trained networks are small numbers; a standard deviation of 1 shows a bias read elsewhere.
        table = randn(network.windows.table_rows, network.heads, grad=True)
        return cls(x, qkv, cut, table, randn(*shape, C), geometry.gather(randn(*shape, C)))


def peers_of(network: Network, geometry: Geometry, dtype: torch.dtype, everyone: bool) -> dict[str, Peer]:
    def make(kind: type[Eager]) -> Peer:
        return peer(network.form, kind, geometry, device=gpu.DEVICE, dtype=dtype)

    peers = {"eager": make(Eager), "sdpa": make(Sdpa)}
    return {**peers, "compile": make(Eager).compiled(), "flex": make(Flex).compiled()} if everyone else peers


def contestants(network: Network, peers: dict[str, Peer], data: Inputs, training: bool) -> dict[str, gpu.Call]:
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
        out = K.window_attention(data.qkv, data.table, heads=network.heads, windows=network.windows, impl=IMPL)
        return torch.autograd.grad(out, (data.qkv, data.table), data.pull) if training else (out,)

    return {**{name: partial(run_peer, peer) for name, peer in peers.items()}, OURS: run_ours}


@pytest.fixture(scope="module")
def summary() -> Iterator[dict[tuple[str, int, bool], gpu.Measured]]:
    """Measurements by network, batch and training, of bfloat16 on the large map; printed at the end."""
    rows: dict[tuple[str, int, bool], gpu.Measured] = {}
    yield rows
    print(f"\n\n{BIG}x{BIG}, bfloat16: ours against its peers")
    heads = ("", "batch", "eager", "eager+bwd", "compiled", "core memory", "beyond qkv", "targets")
    print(("{:14}{:>6}" + "{:>14}" * 5 + "  {}").format(*heads))
    for name, network in NETWORKS.items():
        for batch in sorted({batch for row, batch, _ in rows if row == name}):
            forward, both = (rows.get((name, batch, training), gpu.Measured()) for training in (False, True))
            qkv = 3 * network.channels * 2 * batch * _side(network, BIG) ** 2
            cells = (
                _times(forward.seconds, "eager"),
                _times(both.seconds, "eager"),
                _times(forward.seconds, "compile"),
                _times({key: value + qkv for key, value in forward.memory.items()}, "eager"),
                _times(forward.memory, "eager"),
            )
            print(("{:14}{:>6}" + "{:>14}" * 5 + "  {}").format(name, batch, *cells, network.targets))


def _times(values: dict[str, Any], name: str) -> str:
    return f"{values[name] / values[OURS]:.2f}x" if name in values and values.get(OURS) else "-"


def _side(network: Network, side: int) -> int:
    return max(side, *network.windows.size)


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize(
    ("name", "side", "batch", "dtype"), CASES, ids=[f"{n}-{s}-b{b}-{str(d)[6:]}" for n, s, b, d in CASES]
)
def test_window_attention_gpu(record, summary, name, side, batch, dtype, training):
    torch._dynamo.reset()
    network = NETWORKS[name]
    side = _side(network, side)
    geometry = Geometry(network.heads, network.windows, side, side)
    data = Inputs.draw(network, geometry, batch, dtype, training)
    large = side >= BIG and dtype is torch.bfloat16
    peers = peers_of(network, geometry, dtype, gpu.FULL or (large and batch == 1))
    runs = contestants(network, peers, data, training)

    def checked(contestant: str, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if training and contestant != OURS and network.form == "swin":
            return geometry.scatter(result[0]), result[1]
        return result

    with torch.set_grad_enabled(training):
        found = gpu.compete(runs, ours=OURS, tolerance=TOLERANCE[dtype], checked=checked)
        floor = (12 if training else 4) * data.pull.numel() * dtype.itemsize / gpu.copy_bandwidth()
        warm = gpu.warm_times(runs, found, OURS) if gpu.SMOKE or (side, batch) == (SMALL, 1) else {}
    kind = "forward + backward" if training else "forward"
    title = f"{name} {side}x{side} batch {batch} {str(dtype)[6:]} {kind}"
    gpu.table(title, found, ours=OURS, floor=floor, warm=warm)
    if "sdpa" in found.seconds:
        print(f"  sdpa ran as {peers['sdpa'].attend.backend}")
    if large:
        summary[name, batch, training] = found

    def ours() -> None:
        with torch.set_grad_enabled(training):
            runs[OURS]()
        gpu.wait()

    record(
        found.seconds,
        gpu.DEVICE,
        ours=ours,
        gpu=torch.cuda.get_device_name() if gpu.DEVICE == "cuda" else None,
        **gpu.fields(found, ours=OURS, floor=floor, warm=warm),
    )
