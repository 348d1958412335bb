"""What a number was measured on: device, processor, memory, versions, commit."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "torch", "triton", "numpy", "pillow", "opencv-python-headless", "torchvision", "onnx", "onnxruntime",
    "onnxruntime-gpu", "spandrel", "timm", "sr-engine",
)  # fmt: skip
FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def device_name(kind: str) -> str:
    """Of the "cpu" or the current "cuda" device, for people."""
    if kind == "cuda":
        return torch.cuda.get_device_name()
    return f"{_cpu()['model']}, {cores()} cores"


def folder_name(kind: str) -> str:
    """The same as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", device_name(kind)).strip("_")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fingerprint(kind: str) -> dict[str, Any]:
    """Everything about the machine that moves a timing."""
    cpu = _cpu()
    return {
        "device": device_name(kind),
        "folder": folder_name(kind),
        "kind": kind,
        "cpu": cpu["model"],
        "isa": cpu["isa"],
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_gigabytes": _memory_gigabytes(),
        "os": f"{platform.system()} {platform.release()}",
        "gpu": _gpu() if kind == "cuda" else None,
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in PACKAGES:
        try:
            found.setdefault(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> tuple[str, bool]:
    """Short hash and whether files differ from it; SR_BENCH_COMMIT says it where there is no repository."""
    if named := os.environ.get("SR_BENCH_COMMIT"):
        return named, False
    found = _git("rev-parse", "--short=7", "HEAD")
    # Results and pages made of them may change while a suite runs; what was timed may not.
    changed = _git("status", "--porcelain", "--", "sr_engine", "kernels", "configs", "bench/*.py")
    return (found or "unknown"), bool(changed)


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {"model": platform.processor() or platform.machine(), "isa": ""}
    fields = dict(re.findall(r"^([\w ]+?)\s*:\s*(.*)$", text, re.MULTILINE))
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    model = fields.get("model name") or platform.processor() or platform.machine()
    return {"model": model, "isa": next((flag.upper() for flag in FLAGS if flag in flags), "")}


def _memory_gigabytes() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gigabytes": round(properties.total_memory / 2**30, 1),
        "l2_megabytes": round(getattr(properties, "L2_cache_size", 0) / 2**20, 1),
        "cuda": torch.version.cuda,
        "driver": _driver(),
    }


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None
