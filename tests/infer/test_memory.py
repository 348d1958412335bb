"""Tile sizes from memory."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sr_engine.infer import memory
from sr_engine.infer.memory import (
    MAX_TILE,
    MIN_TILE,
    auto_tile,
    free_memory,
    is_out_of_memory,
    measure_bytes_per_pixel,
    waiting_rows,
)

CPU = torch.device("cpu")


def test_a_tile_fits_its_share_of_the_memory():
    for free in (10**8, 10**9):
        tile = auto_tile(1000.0, CPU, free=free)
        assert tile % 8 == 0
        assert (tile * tile) * 1000 <= free / 4 < ((tile + 8) ** 2) * 1000


def test_tiles_have_a_least_and_a_most():
    assert auto_tile(1e9, CPU, free=10**9) == MIN_TILE
    assert auto_tile(1e9, CPU, free=10**9, smallest=64) == 64
    assert auto_tile(1.0, CPU, free=10**12) == MAX_TILE


def test_free_memory_is_some_of_this_machine():
    assert 1 << 20 < free_memory(CPU) < 1 << 50


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 500\ninactive_file 200"}, 500),
        ({"memory.max": "max", "memory.current": "700", "memory.stat": "inactive_file 200"}, None),
        ({}, None),
    ],
)
def test_a_containers_limit_counts_without_its_page_cache(tmp_path, monkeypatch, files, expected):
    for name, content in files.items():
        (tmp_path / name).write_text(content + "\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory._cgroup() == expected


def test_measured_memory_covers_what_a_pass_allocates():
    """A convolution to 64 channels and back at four times the size holds at least its largest result."""
    weight = torch.rand(64, 3, 3, 3)

    def run(x):
        return F.interpolate(F.conv2d(x, weight, padding=1), scale_factor=4)[:, :3]

    measured = measure_bytes_per_pixel(run, torch.rand(1, 3, 200, 200), CPU)
    assert 64 * 16 * 4 <= measured <= 64 * 16 * 4 * 10


@pytest.mark.gpu
def test_on_a_gpu_the_allocator_is_asked():
    weight = torch.rand(64, 3, 3, 3, device="cuda")
    measured = measure_bytes_per_pixel(
        lambda x: F.conv2d(x.cuda(), weight, padding=1), torch.rand(1, 3, 64, 64), torch.device("cuda")
    )
    assert measured >= 64 * 4
    assert free_memory(torch.device("cuda")) > 1 << 20


def test_out_of_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
        "[enforce fail at CPUAllocator.cpp:75] data. DefaultCPUAllocator: not enough memory: you tried",
        "unable to mmap 400 bytes from file <x>: Cannot allocate memory (12)",
        "could not create a primitive",  # oneDNN, under a limit of the address space
        "could not create a memory object",
        "std::bad_alloc",
        "bad allocation",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_every_allocators_words_are_known(text):
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text)), "which is no failure of a machine"


def test_numpys_words_too():
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 60, np.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "text",
    ["expected scalar type Float but found Half", "could not create a primitive descriptor for a convolution", ""],
)
def test_other_failures_are_not_taken_for_it(text):
    assert not is_out_of_memory(RuntimeError(text))


def test_rows_that_wait_fit_their_share():
    assert waiting_rows(1e6, CPU, free=8 * 10**9) == int((768 << 20) / 1e6)
    assert waiting_rows(1e6, CPU, free=80 * 10**6) == 10
    assert waiting_rows(1e12, CPU, free=10**9) == 1
