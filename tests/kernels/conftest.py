"""Fixtures of the kernels' tests; the interpreter's jobs run beside all other tests of a session."""

import importlib.util
from collections.abc import Iterator
from typing import cast

import pytest
import torch

from tests.kernels.background import Job, interpreter


def pytest_collection_finish(session: pytest.Session) -> None:
    """The jobs that are wanted start now and are asked for last."""
    wanted = [
        item
        for item in session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_kernels_in_the_interpreter"
    ]
    session.items[:] = [item for item in session.items if item not in wanted] + wanted
    if importlib.util.find_spec("triton") is not None and not session.config.option.collectonly:
        interpreter.start(cast(Job, item.callspec.params["job"]) for item in wanted)


def pytest_sessionfinish() -> None:
    interpreter.stop()


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory nobody wrote to reads as NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3, device="cuda" if torch.cuda.is_available() else "cpu").isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
