"""Which implementation runs, and how it is said."""

import pytest
import torch

from sr_kernels import dispatch
from sr_kernels import functional as K

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv(dispatch.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.parametrize("op", dispatch.OPERATIONS)
def test_cpu_tensors_take_the_torch_path(op):
    assert dispatch.resolve(op, "auto", CPU) == "torch"
    assert dispatch.resolve(op, "reference", CPU) == "reference"


@pytest.mark.parametrize("op", dispatch.OPERATIONS)
def test_triton_by_name_is_an_error_where_it_cannot_run(op):
    with pytest.raises(dispatch.ImplUnavailableError, match=rf"{op}: impl='triton' cannot run: .*use impl="):
        dispatch.resolve(op, "triton", CPU)


def test_public_operations_refuse_what_cannot_run():
    with pytest.raises(dispatch.ImplUnavailableError):
        K.window_attention(torch.zeros(1, 4, 4, 6), heads=1, windows=4, impl="triton")
    with pytest.raises(dispatch.ImplUnavailableError):
        K.content_stats(torch.zeros(1, 3, 4, 4), impl="triton")


def test_environment_replaces_auto_and_nothing_else(monkeypatch):
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "reference")
    assert dispatch.resolve("window_attention", "auto", CPU) == "reference"
    assert dispatch.resolve("window_attention", "torch", CPU) == "torch"
    assert "SR_KERNELS_IMPL=reference" in dispatch.explain("cpu")["window_attention"]


def test_unknown_names_are_errors_that_say_where_they_come_from(monkeypatch):
    with pytest.raises(ValueError, match="one of auto, triton, torch, reference, got 'cuda'"):
        dispatch.resolve("content_stats", "cuda", CPU)
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "fast")
    with pytest.raises(ValueError, match="SR_KERNELS_IMPL=fast"):
        dispatch.resolve("content_stats", "auto", CPU)


def test_explain_names_every_operation_with_a_reason():
    explained = dispatch.explain("cpu")
    assert set(explained) == set(dispatch.OPERATIONS)
    assert all(text.startswith("torch (") and len(text) > 10 for text in explained.values())


def test_tensors_that_triton_does_not_serve_are_named():
    with pytest.raises(dispatch.ImplUnavailableError, match="these tensors are float64"):
        K.window_attention(torch.zeros(1, 4, 4, 6, dtype=torch.float64), heads=1, windows=4, impl="triton")
    with pytest.raises(dispatch.ImplUnavailableError, match="at most 128 channels a head, these have 130"):
        K.window_attention(torch.zeros(1, 4, 4, 390), heads=1, windows=4, impl="triton")
    assert K.window_attention(torch.zeros(1, 4, 4, 390), heads=1, windows=4).shape == (1, 4, 4, 130)


class Calls(torch.nn.Module):
    """Every operation once."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = torch.cat([x.permute(0, 2, 3, 1)] * 8, 3)
        attended = K.window_attention(rows, heads=1, windows=4)
        transposed = K.channel_attention(rows, heads=1, temperature=x.new_ones(1))
        return attended, transposed, K.magic_resample(x, scale=2), K.content_stats(x).fine


def test_compiled_code_keeps_the_operators_and_exported_code_has_none():
    """torch.compile of torch 2.11 answers `torch.compiler.is_exporting()` with True."""
    seen: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        seen.append(graph)
        return graph

    x = torch.rand(1, 3, 8, 8)
    torch.compile(Calls(), backend=backend, fullgraph=True)(x)
    exported = torch.export.export(Calls(), (x,)).graph

    def ours(graph: torch.fx.Graph) -> set[str]:
        return {str(n.target).split(".")[1] for n in graph.nodes if str(n.target).startswith("sr_kernels.")}

    assert set(dispatch.OPERATIONS) <= ours(seen[0].graph)
    assert not ours(exported)
