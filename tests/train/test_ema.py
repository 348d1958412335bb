"""The average of weights: steps whose share lies on the device, and no average at all."""

import pytest
import torch
from torch import Tensor, nn

from sr_engine.train.ema import Ema


def _drift(net: nn.Module) -> None:
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn_like(p) * torch.logspace(-6, 2, p.numel()).view_as(p))


@pytest.mark.parametrize("on_device", [False, True])
def test_without_decay_the_copy_equals_the_network(on_device):
    torch.manual_seed(0)
    net = nn.Linear(20, 20)
    ema = Ema(net, 0.0)
    for _ in range(3):
        _drift(net)
        share = ema.share()
        ema.follow(net, torch.tensor(share) if on_device else share)
        for mine, theirs in zip(ema.net.parameters(), net.parameters(), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("left_out", [False, True])
def test_a_share_on_the_device_moves_as_one_on_the_host(left_out):
    torch.manual_seed(0)
    net = nn.Linear(4, 4)
    host, device = Ema(net, 0.9), Ema(net, 0.9)
    for p in net.parameters():
        p.data.add_(1.0)
    before: Tensor = net.weight - 1.0
    host.follow(net, 0.0 if left_out else 0.25)
    device.follow(net, torch.tensor(0.0 if left_out else 0.25))
    torch.testing.assert_close(device.net.weight, host.net.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(device.net.weight, before + (0.0 if left_out else 0.25), rtol=0, atol=1e-6)
