"""An accelerated network is the same object with the same weights: what a user does with it goes on working."""

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sr_engine.dropin import accelerate, restore
from tests.zoo.modules import randomise
from tests.zoo.test_accelerate_swinir import make_swinir

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


@pytest.fixture
def network() -> Any:
    network = make_swinir(depths=[2], num_heads=[2])
    randomise(network)
    return network.eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(1, 3, 24, 16)


def close(expected: Tensor, actual: Tensor, tolerance: float = 1e-5) -> bool:
    return ((actual - expected).abs().max() / expected.abs().max()).item() <= tolerance


def test_identity_survives(network, x):
    block = network.layers[0].residual_group.blocks[1]
    parameters, kind = dict(network.named_parameters()), type(block)
    seen = []
    block.register_forward_hook(lambda *_: seen.append("block"))
    block.attn.qkv.register_forward_hook(lambda *_: seen.append("qkv"))
    expected = network(x)
    seen.clear()
    accelerate(network)
    assert not seen
    assert close(expected, network(x))
    assert seen == ["qkv", "block"]
    assert isinstance(block, kind)
    assert type(block) is not kind
    assert all(parameters[name] is parameter for name, parameter in network.named_parameters())
    restore(network)
    assert type(block) is kind
    assert torch.equal(expected, network(x))


def test_an_optimizer_made_before_trains_the_same(network, x):
    twin = copy.deepcopy(network)
    for trained in (network, twin):
        optimizer = torch.optim.SGD(trained.parameters(), lr=1e-3)
        if trained is network:
            accelerate(trained)
        for _ in range(2):
            optimizer.zero_grad()
            trained.train()(x).square().mean().backward()
            optimizer.step()
    for (name, ours), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        assert close(theirs, ours, 1e-4), name


def test_random_numbers_go_on_as_if_nothing_had_happened(network):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    accelerate(network)
    assert torch.equal(torch.rand(3), expected)


def test_a_second_time_changes_nothing(network, x):
    accelerate(network)
    classes = [type(module) for module in network.modules()]
    _, report = accelerate(network)
    assert [type(module) for module in network.modules()] == classes
    assert not report.layers
    assert "2 layers were swapped before" in report.summary()


def test_copies_and_pickles_are_accelerated_too(network, x):
    accelerate(network)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert type(copied.layers[0].residual_group.blocks[0]) is type(network.layers[0].residual_group.blocks[0])
        assert torch.equal(copied(x), network(x))
        assert close(restore(copied)(x), network(x))


def test_a_saved_network_loads_in_a_new_process(network, x, tmp_path):
    expected = network(x).detach()
    accelerate(network)
    torch.save({"network": network, "x": x, "expected": expected}, tmp_path / "saved.pt")
    code = (
        "import sys, torch\n"
        "saved = torch.load(sys.argv[1], weights_only=False)\n"
        "block = saved['network'].layers[0].residual_group.blocks[0]\n"
        "assert type(block).__name__ == 'FusedSwinTransformerBlock', type(block)\n"
        "error = (saved['network'](saved['x']) - saved['expected']).abs().max() / saved['expected'].abs().max()\n"
        "assert error <= 1e-5, error\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "saved.pt")], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_weights_go_both_ways(network, x):
    original, saved = copy.deepcopy(network), io.BytesIO()
    accelerate(network)
    randomise(network)
    torch.save(network.state_dict(), saved)
    saved.seek(0)
    original.load_state_dict(torch.load(saved, weights_only=True))
    assert close(original(x), network(x))


def test_compile(network, x):
    expected = network(x)
    accelerate(network)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    out = compiled(x)
    assert close(expected, out)
    out.square().mean().backward()
    assert network.layers[0].residual_group.blocks[0].attn.relative_position_bias_table.grad.abs().max() > 0


def test_export_with_free_sizes(network, x):
    accelerate(network)
    rows, columns = torch.export.Dim("rows", min=2, max=32), torch.export.Dim("columns", min=2, max=32)
    program = torch.export.export(network, (x,), dynamic_shapes=({2: 8 * rows, 3: 8 * columns},))
    other = torch.rand(1, 3, 32, 24)
    assert close(network(other), program.module()(other))
    assert not any("sr_kernels" in str(node.target) for node in program.graph.nodes)


def test_onnx(network, x, tmp_path):
    accelerate(network)
    torch.onnx.export(network, (x,), tmp_path / "network.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert close(network(x), torch.from_numpy(np.asarray(out)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(network, x, dtype):
    """The original adds its float32 mask, which makes the probabilities float32 and the product with v fail."""
    expected = network(x)
    network.to(dtype)
    with pytest.raises(RuntimeError):
        network(x[:, :, :8, :8].repeat(1, 1, 1, 3).to(dtype))
    accelerate(network)
    out = network(x.to(dtype))
    assert out.dtype == dtype
    assert close(expected, out.float(), 0.1)


def test_ddp(network, x, tmp_path):
    expected = copy.deepcopy(network)
    expected(x).square().mean().backward()
    accelerate(network)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        nn.parallel.DistributedDataParallel(network)(x).square().mean().backward()
    finally:
        dist.destroy_process_group()
    for (name, ours), theirs in zip(network.named_parameters(), expected.parameters(), strict=True):
        assert close(theirs.grad, ours.grad, 1e-4), name
