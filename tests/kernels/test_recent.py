"""What the cache of weights keeps: the last ones, within its bytes."""

import weakref
from threading import Thread

import torch
from torch import Tensor

from sr_kernels.magic_resample.bands import axis_stripes
from sr_kernels.magic_resample.recent import recent


def test_the_last_ones_are_kept_within_count_and_bytes():
    made: list[int] = []

    @recent(size=len, most=100, count=3)
    def zeros(n: int) -> bytes:
        made.append(n)
        return bytes(n)

    for n in (10, 20, 30, 10):
        assert zeros(n) == bytes(n)
    assert made == [10, 20, 30], "asked for again, not made again"
    zeros(40)  # the fourth: 20, asked for longest ago, goes
    zeros(10)
    assert made == [10, 20, 30, 40]
    zeros(20)
    assert made[-1] == 20
    zeros(90)  # all but 10 bytes: the others go
    zeros(20)
    assert made[-2:] == [90, 20]
    zeros(101)  # too much to keep: nothing goes for it
    zeros(20)
    zeros(101)
    assert made[-3:] == [20, 101, 101]


def test_threads_share_it():
    @recent(size=len, most=1000, count=4)
    def zeros(n: int) -> bytes:
        return bytes(n)

    wrong: list[int] = []

    def ask(first: int) -> None:
        wrong.extend(n for i in range(2000) if len(zeros(n := (first + i) % 9 * 40)) != n)

    threads = [Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def weights_of(n_in: int, n_out: int) -> list["weakref.ref[Tensor]"]:
    stripes = axis_stripes("mks2021", n_in, n_out, False, 32, 10**6, 4, torch.float32, torch.device("cpu"))
    return [weakref.ref(run.weights) for stripe in stripes for run in stripe]


def alive(refs: list["weakref.ref[Tensor]"]) -> int:
    return sum(weights.nbytes for ref in refs if (weights := ref()) is not None)


def test_weights_of_many_large_axes_do_not_add_up():
    """As many as the count allows would be a gigabyte, for lines of four channels side by side."""
    made, total = [], 0
    for n in range(20):
        fresh = weights_of(3000, 3011 + n)
        total += alive(fresh)
        made += fresh
    assert total > 100e6, "the test could not notice"
    assert alive(made) <= 64 * 2**20
