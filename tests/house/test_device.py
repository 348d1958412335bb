"""Choosing a precision measures, and leaves everything else as it was."""

import pytest
import torch

from sr_engine import device


def test_measuring_draws_nothing_from_the_random_numbers_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    device._cpu_bf16_is_faster.cache_clear()
    before = torch.get_rng_state()
    assert device.pick_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), before)
    device._cpu_bf16_is_faster.cache_clear()
