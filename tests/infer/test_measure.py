"""Time and memory of a run."""

import torch

from sr_engine.infer.measure import costs, peak_bytes, relative_difference

CPU = torch.device("cpu")


def test_the_peak_counts_what_lives_at_once():
    def chain() -> None:
        a = torch.zeros(1 << 18)  # 1 MiB
        b = a + 1
        del a
        del b
        torch.zeros(1 << 18)

    assert 2 << 20 <= peak_bytes(chain, CPU) < (2 << 20) + 4096


def test_memory_from_before_does_not_count():
    x = torch.zeros(1 << 20)
    assert peak_bytes(lambda: x.add_(1), CPU) < 4096


def test_costs_in_turns():
    order = []
    first, second = costs([lambda: order.append(1), lambda: order.append(2)], CPU, repeats=3)
    assert order == [1, 2] * 5
    assert first.seconds > 0
    assert second.peak_bytes < 4096


def test_a_budget_ends_the_repeats():
    order = []
    costs([lambda: order.append(1)], CPU, repeats=100, budget=0.0)
    assert len(order) == 3


def test_relative_difference():
    assert relative_difference(torch.tensor([1.0, -4.0]), torch.tensor([1.0, -3.0])) == 0.25
