"""Fixtures of pruning's tests."""

import pytest

from sr_engine.models.generator import Generator
from tests.compress.networks import NETWORKS, awake


@pytest.fixture(params=[(name, folded) for name in NETWORKS for folded in (False, True)], ids=str)
def net(request: pytest.FixtureRequest) -> Generator:
    """Every network in both forms."""
    name, folded = request.param
    net = awake(**NETWORKS[name])
    return net.fold() if folded else net
