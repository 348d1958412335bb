"""What the fast path of window attention keeps between calls: bounded, whole numbers only, never in the way."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sr_kernels import functional as K
from sr_kernels.window_attention import plan, plan_cache

HEADS, C = 2, 10
CPU = torch.device("cpu")
WINDOWS = [
    K.Windows(4, outside="zero"),
    K.Windows(4, 2, outside="zero"),
    K.Windows(4, keys=6, key_offset=-1, outside="zero"),
]


@pytest.fixture
def cache(monkeypatch):
    """An empty cache in place of the one of the process."""
    own = plan_cache.Cache(plan_cache.LIMIT)
    monkeypatch.setattr(plan, "kept", own)
    return own


def attend(height: int, width: int, windows: K.Windows, impl: str = "torch") -> tuple[Tensor, ...]:
    """The output and the gradients of the map and the table."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    qkv = torch.randn(1, height, width, 3 * C, generator=generator, dtype=torch.float64, requires_grad=True)
    table = torch.randn(windows.table_rows, HEADS, generator=generator, dtype=torch.float64, requires_grad=True)
    out = K.window_attention(qkv, table, heads=HEADS, windows=windows, impl=impl)  # type: ignore[arg-type]
    return (out, *torch.autograd.grad(out.sin().sum(), (qkv, table)))


def tensors(cache: plan_cache.Cache) -> list[Tensor]:
    return list(plan_cache._tensors([value for value, _ in cache._values.values()]))


def test_a_plan_is_made_once(cache, monkeypatch):
    made = []
    make = plan.make_plan
    monkeypatch.setattr(plan, "make_plan", lambda *given: made.append(given) or make(*given))
    for _ in range(3):
        attend(8, 12, WINDOWS[1])
        attend(12, 8, WINDOWS[1])
    assert len(made) == 2
    assert len(cache) == 3  # and the index of the table


def test_kept_bytes_are_bounded_and_results_stay_right(cache):
    cache.limit = 40_000
    sizes = [(h, w, windows) for h in range(5, 13) for w in (6, 11) for windows in WINDOWS]
    for height, width, windows in [*sizes, *sizes[:4]]:
        for got, want in zip(attend(height, width, windows), attend(height, width, windows, "reference"), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)
        storages = {t.data_ptr(): t.untyped_storage().nbytes() for t in tensors(cache)}
        assert 0 < sum(storages.values()) <= cache.bytes <= 40_000
    assert len(cache) < len(sizes)


def test_what_was_asked_for_longest_ago_goes_first():
    cache = plan_cache.Cache(100)
    for key in ("a", "b", "a", "c"):
        cache.get(key, CPU, lambda: torch.zeros(5, dtype=torch.int64))
    assert [key for key, _ in cache._values] == ["a", "c"]


def test_a_plan_of_a_huge_picture_is_not_kept(cache):
    cache.limit = 10_000
    attend(40, 40, WINDOWS[1])
    assert all(t.numel() < 1600 for t in tensors(cache))


def test_only_whole_numbers_without_a_past_are_kept(cache):
    for windows in WINDOWS:
        attend(9, 9, windows)
    kept = tensors(cache)
    assert kept
    assert all(not t.is_floating_point() and not t.requires_grad and t.grad_fn is None for t in kept)


def test_what_inference_kept_serves_training(cache):
    with torch.inference_mode():
        K.window_attention(torch.zeros(1, 8, 8, 3 * C), torch.zeros(49, HEADS), heads=HEADS, windows=K.Windows(4, 2))
    assert len(cache) == 2
    assert not any(t.is_inference() for t in tensors(cache))
    attend(8, 8, K.Windows(4, 2))


def test_threads_get_the_same_results(cache):
    cache.limit = 20_000
    jobs = [(h, 8, windows) for h in (5, 8, 9, 12) for windows in WINDOWS] * 6
    expected = {job: attend(*job, "reference")[0] for job in set(jobs)}
    with ThreadPoolExecutor(8) as pool:
        for job, got in zip(jobs, pool.map(lambda job: attend(*job), jobs), strict=True):
            torch.testing.assert_close(got[0], expected[job], rtol=0, atol=1e-12)
    assert cache.bytes == sum(size for _, size in cache._values.values()) <= 20_000


def test_a_busy_cache_is_not_waited_for(cache):
    with cache._lock:
        got = attend(8, 8, WINDOWS[0])
    assert not len(cache)
    torch.testing.assert_close(got[0], attend(8, 8, WINDOWS[0])[0], rtol=0, atol=0)


def test_fake_tensors_neither_stay_nor_meet_kept_ones(cache):
    with FakeTensorMode():
        assert type(plan.relative_index(WINDOWS[0], CPU)) is not Tensor
    assert not len(cache)
    plan.relative_index(WINDOWS[0], CPU)
    with FakeTensorMode():
        assert type(plan.relative_index(WINDOWS[0], CPU)) is not Tensor


def test_other_devices_keep_nothing(cache):
    plan.plan_of(1, 8, 8, WINDOWS[0], torch.device("meta"))
    assert not len(cache)
