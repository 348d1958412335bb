"""Fixtures of all rooms: where the shared pictures are, and what cannot run on this machine."""

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    expression = config.getoption("-m") or ""
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if "slow" in item.keywords and "slow" not in expression:
            item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test and training pictures beside the checkout; a user's clone does not have it."""
    if not SHARED.is_dir():
        pytest.skip(f"test pictures are not part of the project: {SHARED} does not exist")
    return SHARED
