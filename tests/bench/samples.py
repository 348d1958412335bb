"""Results files as `bench/` writes them, with made-up numbers."""

import json
from pathlib import Path
from typing import Any

GPU, CPU = "NVIDIA T0 80GB", "Some CPU, 2 cores"


def contestant(
    milliseconds: float, megabytes: float | None = 8.0, *, spread: float = 0.02, samples: int = 15
) -> dict[str, Any]:
    """One contestant; `spread` is from p20 to p80, relative to the median."""
    low, high = milliseconds * (1 - spread / 2), milliseconds * (1 + spread / 2)
    return {
        "milliseconds": milliseconds,
        "p20": low,
        "p80": high,
        "samples": samples,
        "megabytes": megabytes,
        "error": 1e-6,
    }


def case(title: str, contestants: dict[str, dict[str, Any]], *, device: str = "cpu", **fields: Any) -> dict[str, Any]:
    """A case of "window_attention" unless `fields` say otherwise; the first contestant is the baseline."""
    content = {
        "op": "window_attention",
        "title": title,
        "kind": "forward",
        "dtype": "bfloat16" if device == "cuda" else "float32",
        "device": device,
        "ours": "ours",
        "baseline": next(iter(contestants)),
        "headline": False,
        "series": None,
        "side": 0,
        "unit": "",
        "per_call": 0,
        "contestants": contestants,
        "dropped": {},
        "moved": 30_000_000,
        "flops": 2_000_000_000,
        "floor_milliseconds": 0.01,
        "floor": "bytes",
        "notes": {},
        "load": 0.5,
        "when": "2026-11-20T10:00:00+00:00",
    } | fields
    names = ("op", "title", "kind", "dtype", "device")
    return {"key": " | ".join(str(content[name]) for name in names)} | content


def results(
    name: str, cases: list[dict[str, Any]], *, commit: str = "aaaaaaa", day: str = "2026-11-20", **fields: Any
) -> dict[str, Any]:
    """The content of a results file of device `name`, a GPU where the name begins with NVIDIA."""
    gpu = name.startswith("NVIDIA")
    machine = {
        "device": name,
        "folder": name.replace(" ", "_"),
        "kind": "cuda" if gpu else "cpu",
        "cpu": "Some CPU",
        "isa": "AVX2",
        "cores": 2,
        "threads": 2,
        "memory_gigabytes": 24.0,
        "os": "Linux 6",
        "gpu": {"capability": "9.0", "driver": "570"} if gpu else None,
    }
    return {
        "schema": 1,
        "machine": machine,
        "versions": {"python": "3.12.0", "torch": "2.11.0"} | ({"triton": "3.6.0"} if gpu else {}),
        "commit": commit,
        "dirty": False,
        "when": f"{day}T10:00:00+00:00",
        "ceilings": {
            "copy_gigabytes_per_second": 3000.0 if gpu else 20.0,
            "teraflops": {"bfloat16": 790.0, "float32": 50.0} if gpu else {"float32": 0.1},
        },
        "cases": cases,
    } | fields


def write(folder: Path, content: dict[str, Any]) -> Path:
    """Where `bench/` would keep it below `folder`."""
    path = folder / content["machine"]["folder"] / f"{content['when'][:10]}-{content['commit']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def two_devices(folder: Path) -> None:
    """A GPU measured twice, a CPU once; cases that one of them lacks, rivals that were left out, a curve."""
    refused = {"flex": "NotImplementedError: head dim 10"}
    swinir = {"eager": contestant(0.48, 116.0), "compile": contestant(0.24, 66.0), "ours": contestant(0.04, 8.0)}
    hat = {"eager": contestant(2.0, 300.0), "flex": contestant(0.4, 60.0), "ours": contestant(0.16, 50.0)}
    old = [
        case("SwinIR 256x256", swinir | {"ours": contestant(0.05)}, device="cuda", headline=True),
        case("HAT 256x256", hat, device="cuda", headline=True),
    ]
    write(folder, results(GPU, old, commit="0ldc0de"))
    new = [case("SwinIR 256x256", swinir, device="cuda", headline=True, dropped=refused)]
    write(folder, results(GPU, new, commit="bbbbbbb", day="2026-11-21"))
    slower = {"eager": contestant(10.0, 20.0), "ours": contestant(12.5, 25.0)}
    cpu = [case("SwinIR 64x64", slower, headline=True)]
    for side in (64, 128, 256, 512):
        times = {"Pillow": contestant(side**2 * 1e-3, None), "ours": contestant(side**2 * 3e-4, None)}
        curve = {
            "series": "magic_resample x4",
            "side": side,
            "unit": "megapixels",
            "per_call": side**2 * 1e-6,
            "flops": 0,
        }
        cpu.append(case(f"{side}x{side} to {4 * side}x{4 * side}", times, op="magic_resample", **curve))
    write(folder, results(CPU, cpu, throughput=[{"preset": "tiny", "iterations_per_second": 4.321}]))
