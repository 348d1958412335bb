"""Choice of kernel configurations: the static table, and tuning on the first call."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sr_kernels import functional as K
from sr_kernels.window_attention import arguments, configs


def problem(device: str = "cuda", **other: Any) -> Any:
    given = {"whole": True, "padded_head_dim": 32, "tokens": (64, 64), "head_dim": 30, "count": 256, "heads": 6}
    q = SimpleNamespace(device=torch.device(device), element_size=lambda: 2)
    return SimpleNamespace(**given | {"q": q, "arch": 90, "logit_scale": None} | other)


def test_tuning_times_each_shape_class_once(monkeypatch):
    timed: list[configs.Config] = []

    def milliseconds(launch: configs.Config) -> float:
        timed.append(launch)
        return math.inf if launch.warps == 8 else abs(launch.windows - 4) + launch.stages

    monkeypatch.setenv(configs.ENVIRONMENT_VARIABLE, "1")
    monkeypatch.setattr(configs, "_milliseconds", milliseconds)
    monkeypatch.setattr(configs, "_tuned", {})
    chosen = [configs.best("forward", problem(), lambda config: config) for _ in range(2)]  # type: ignore[arg-type]
    assert chosen[0] == chosen[1] == configs.Config(warps=4, stages=1, windows=4)
    assert len(timed) == len(set(timed)) == len(list(configs.candidates("forward", problem())))


def test_without_being_asked_nothing_is_timed(monkeypatch):
    monkeypatch.delenv(configs.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(configs, "_milliseconds", lambda _: pytest.fail("timed"))
    assert configs.best("forward", problem(), lambda c: c) == configs.static("forward", problem())  # type: ignore[arg-type]


def test_summing_programs_fill_the_multiprocessors_and_no_more():
    many = problem("meta", count=1024)
    each = configs.Config(resident=2).share(many, tiles=4)
    assert -(-1024 // each) * 6 * 4 <= 2 * configs.multiprocessors(torch.device("meta"))
    assert configs.Config(resident=2).share(problem("meta", count=3), tiles=1) == 1


@pytest.mark.parametrize(
    ("windows", "head_dim", "dtype", "arch", "inference", "training"),
    [
        (K.Windows(8), 30, torch.bfloat16, 90, True, True),
        (K.Windows(8), 30, torch.bfloat16, 80, True, False),
        (K.Windows(8), 10, torch.float16, 80, True, True),
        (K.Windows(8), 10, torch.float32, 90, True, False),
        (K.Windows(8), 53, torch.bfloat16, 90, False, False),
        (K.Windows(16), 30, torch.bfloat16, 90, False, False),
    ],
)
def test_which_windows_are_held_whole(windows, head_dim, dtype, arch, inference, training):
    assert arguments.whole(windows, head_dim, dtype, arch, training=False) is inference
    assert arguments.whole(windows, head_dim, dtype, arch, training=True) is training


def test_tiles_cover_a_window_without_waste_where_they_can():
    covers = {(size, n): arguments.columns(size, n) for size in ((16, 16), (24, 24), (8, 32)) for n in (32, 64)}
    assert all(arguments.tile_count(size, n, c) * n == math.prod(size) for (size, n), c in covers.items())
