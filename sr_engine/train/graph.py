"""Replay the launches of an iteration as one: for a small network they take the host longer than the GPU's work."""

import logging
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_WARM_UP = 3  # calls that run as usual: libraries choose and allocate, kernels are compiled


class Recorded:
    """A function on a CUDA device whose launches are recorded once as a CUDA graph and replayed from then on.

    `recorded(key, *inputs)` is `work(key, *inputs)`. The function has to do the same for every call with one key and
    inputs of one shape, whatever numbers they hold, and must not read the device; what else it depends on has to lie
    in tensors that stay where they are. Another key or shape starts over. The first calls run as usual, then one is
    recorded; if that fails, the reason is logged once and calls run as usual for good.

    Args:
        work: returns one tensor; that of a replay is overwritten by the next one.
    """

    def __init__(self, work: Callable[..., Tensor]) -> None:
        self._work = work
        self._key: Hashable = None
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream: torch.cuda.Stream | None = None
        self.failed = False

    def __call__(self, key: Hashable, *inputs: Tensor) -> Tensor:
        if self.failed:
            return self._work(key, *inputs)
        called = key, *((x.shape, x.dtype, x.stride()) for x in inputs)
        if called != self._key:
            self._key, self._calls, self._graph = called, 0, None
            self._inputs = [torch.empty_like(x) for x in inputs]
        for mine, x in zip(self._inputs, inputs, strict=True):
            mine.copy_(x)
        self._calls += 1
        if self._graph is None and self._calls > _WARM_UP:
            self._record(key)
        if self._graph is None:
            return self._beside(key)
        self._graph.replay()
        return self._output

    @property
    def replays(self) -> bool:
        """Whether the last call was, or started, a replay."""
        return self._graph is not None

    def _beside(self, key: Hashable) -> Tensor:
        """Run as usual on the stream that is recorded later: what is allocated for a stream stays with it."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._inputs[0].device)
        current = torch.cuda.current_stream(self._inputs[0].device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            output = self._work(key, *self._inputs)
        current.wait_stream(self._stream)
        output.record_stream(current)
        return output

    def _record(self, key: Hashable) -> None:
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._inputs[0].device)
        try:
            # The thread that reads data may allocate page-locked memory meanwhile, hence "thread_local".
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._output = self._work(key, *self._inputs)
        except RuntimeError as error:
            self.failed = True
            torch.cuda.set_stream(current)  # torch.cuda.graph leaves its own one where the end of the recording raises
            log.warning("training.cuda_graph: cannot be recorded, so steps run as usual: %s", _first_reason(error))
        else:
            self._graph = graph


def _first_reason(error: BaseException) -> str:
    """What began a chain of errors, in one line: the last one only says that there was one during the recording."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return (str(error).splitlines() or [type(error).__name__])[0]
