"""When calls are recorded and replayed: the host's part, with a stand-in for the GPU; `test_plain` has the rest."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from sr_engine.train import graph as module
from sr_engine.train import session as session_module
from sr_engine.train.distributed import World
from sr_engine.train.graph import Recorded
from sr_engine.train.pair import Pair
from sr_engine.train.plain import PlainStep
from sr_engine.train.session import Session


class Stream:
    def wait_stream(self, _other: object) -> None: ...


USUAL = Stream()


class Graph:
    """Counts its replays."""

    replayed = 0

    def replay(self) -> None:
        self.replayed += 1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [USUAL]  # the current one

    @contextmanager
    def record(_graph: Graph, stream: Stream, **_: object) -> Iterator[None]:
        """Where it fails, it says little and leaves its stream, as torch does."""
        before, streams[0] = streams[0], stream
        try:
            yield
        except RuntimeError:
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904
        streams[0] = before

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: streams[0])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: streams.__setitem__(0, stream))
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(Tensor, "record_stream", lambda *_: None)


class Work:
    """Counts its calls and doubles its input."""

    def __init__(self, fails_at: int = 0) -> None:
        self.calls: list[Any] = []
        self.fails_at = fails_at

    def __call__(self, key: Any, x: Tensor) -> Tensor:
        self.calls.append(key)
        if len(self.calls) == self.fails_at:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        return x * 2


@pytest.mark.usefixtures("cuda")
def test_the_fourth_call_is_recorded_and_replayed_from_then_on():
    work = Work()
    recorded = Recorded(work)
    for value in range(6):
        out = recorded("a", torch.full((2,), float(value)))
        assert recorded.replays == (value >= 3)
        if value <= 3:  # the stand-in computes while it records
            assert out[0] == 2 * value
    graph: Any = recorded._graph
    assert graph.replayed == 3
    assert len(work.calls) == 4
    assert recorded._inputs[0][0] == 5  # where the replay reads


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("change", [{"key": "b"}, {"size": 3}])
def test_another_key_or_shape_starts_over(change):
    work = Work()
    recorded = Recorded(work)
    usual: dict[str, Any] = {"key": "a", "size": 2}
    for _ in range(5):
        recorded(usual["key"], torch.ones(2))
    assert recorded.replays
    other = usual | change
    recorded(other["key"], torch.ones(other["size"]))
    assert not recorded.replays
    for _ in range(3):
        recorded(other["key"], torch.ones(other["size"]))
    assert recorded.replays
    assert len(work.calls) == 8


@pytest.mark.usefixtures("cuda")
def test_what_cannot_be_recorded_runs_as_usual_and_says_why_once(caplog):
    work = Work(fails_at=module._WARM_UP + 1)
    recorded = Recorded(work)
    values = [recorded("a", torch.full((2,), float(value)))[0].item() for value in range(7)]
    assert values == [0, 2, 4, 6, 8, 10, 12]
    assert not recorded.replays
    (record,) = caplog.records
    assert "operation not permitted" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert torch.cuda.current_stream(torch.device("cpu")) is USUAL


def _plain_step(make_config) -> PlainStep:
    session = Session(make_config("network_g.dropout=0.0"), World(torch.device("cpu")))
    assert session.steps.plain is not None
    return session.steps.plain


@pytest.mark.usefixtures("cuda")
def test_gradients_of_a_failed_recording_are_not_added_to(make_config, monkeypatch):
    monkeypatch.setattr(session_module, "obstacle", lambda *_, **__: None)
    usual, recorded = _plain_step(make_config), _plain_step(make_config)
    recorded._work = work = Recorded(recorded._on_device)
    calls = []

    def fail_once(gradient: Tensor) -> Tensor:
        calls.append(gradient)
        if len(calls) == module._WARM_UP + 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        return gradient

    recorded.generator.net.get_parameter("first.weight").register_hook(fail_once)  # the last one to get its gradient
    batch = Pair(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16))
    for it in range(module._WARM_UP + 2):
        for step in (usual, recorded):
            step.launch(batch, it, 1e-3).settle()
    assert work.failed
    for mine, theirs in zip(recorded.generator.parameters, usual.generator.parameters, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.gpu
def test_a_network_that_reads_the_gpu_trains_as_usual(make_config, caplog):
    config = make_config("network_g.dropout=0.0", "training.cuda_graph=true")
    session = Session(config, World(torch.device("cuda")))
    plain = session.steps.plain
    assert plain is not None
    session.steps.generator.net.register_forward_hook(lambda _net, _inputs, sr: sr * float(sr.mean().item() < 1e9))
    usual = torch.cuda.current_stream()
    batch = Pair(torch.rand(2, 3, 8, 8, device="cuda"), torch.rand(2, 3, 16, 16, device="cuda"))
    for it in range(module._WARM_UP + 3):
        before = [p.detach().clone() for p in plain.generator.parameters]
        plain.launch(batch, it, 1e-3).settle()
        assert any(not torch.equal(old, p) for old, p in zip(before, plain.generator.parameters, strict=True))
        assert torch.cuda.current_stream() == usual
    assert not plain.recorded
    (record,) = caplog.records
    assert "cannot be recorded" in record.getMessage()
    assert "previous error" not in record.getMessage()
