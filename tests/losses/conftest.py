"""A generator and a discriminator small enough to run hundreds of times, and a batch for them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_engine.losses.discriminator import generator_inputs
from sr_engine.losses.inputs import LossInputs


class TinyGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.tail = nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.tail(F.gelu(self.stem(x))), 2) + F.interpolate(x, scale_factor=2)


class Output(NamedTuple):
    logits: Tensor
    features: dict[str, Tensor]


class TinyDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.third = nn.Conv2d(8, 10, 3, stride=2, padding=1)
        self.logits = nn.Conv2d(10, 1, 3, padding=1)
        self.passes: list[Tensor] = []

    def forward(self, x: Tensor) -> Output:
        self.passes.append(x)
        first = F.softplus(self.first(x))
        second = F.softplus(self.second(first))
        third = F.softplus(self.third(second))
        return Output(self.logits(third), {"first": first, "second": second, "third": third})


class Scene(NamedTuple):
    net_g: TinyGenerator
    net_d: TinyDiscriminator
    lr: Tensor
    hr: Tensor

    def inputs(self, needs: frozenset[str] = frozenset()) -> LossInputs:
        return generator_inputs(self.net_d, self.net_g(self.lr), self.hr, self.lr, needs=needs)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # Tensors this small only wait for other threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    def make(seed: int = 0, batch: int = 2, side: int = 16) -> Scene:
        torch.manual_seed(seed)
        lr = torch.rand(batch, 3, side // 2, side // 2)
        return Scene(TinyGenerator(), TinyDiscriminator(), lr, torch.rand(batch, 3, side, side))

    return make


@pytest.fixture
def scene(make_scene: Callable[..., Scene]) -> Scene:
    return make_scene()
