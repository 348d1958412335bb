"""Every default configuration compiles for sm_80, sm_90 and sm_100 without a spill and under its recorded ceilings.

For one of the three in the usual run, for the other two with `-m slow`.
"""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import aot

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

# Kernels whose resources are known beforehand; they lie in a file of their own so that no test process imports triton.
KNOWN_KERNELS = """
import torch
import triton
import triton.language as tl
from aot import Case
from sr_kernels.launch import Launch


@triton.jit
def tile(x, out, rows, stride, TILE: tl.constexpr, PRECISION: tl.constexpr):
    m, n = tl.arange(0, TILE), tl.arange(0, TILE)
    a = tl.load(x + m[:, None] * stride + n[None, :], mask=m[:, None] < rows, other=0.0)
    s = tl.dot(a, tl.trans(a), input_precision=PRECISION)
    p = tl.exp2(s - tl.max(s, 1)[:, None])
    o = tl.dot(p.to(a.dtype), a, input_precision=PRECISION) / tl.sum(p, 1)[:, None]
    tl.store(out + m[:, None] * stride + n[None, :], o.to(a.dtype), mask=m[:, None] < rows)


@triton.jit
def copy(x, out, n, absent, factor, TILE: tl.constexpr):
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    value = tl.load(x + i, mask=i < n)
    if absent is not None:
        value += tl.load(absent + i, mask=i < n)
    tl.store(out + i, value * factor, mask=i < n)


@triton.jit
def broken(x):
    tl.store(x, undefined_name)


def tiles(dtype, size, warps, precision="tf32"):
    x = torch.empty(size, size, dtype=dtype, device="meta")
    arguments = {"x": x, "out": x, "rows": 49, "stride": size}
    return [Launch(tile, 1, arguments, {"TILE": size, "PRECISION": precision}, {"num_warps": warps, "num_stages": 1})]


def copies(length, offset=0, absent=None):
    x = torch.empty(1024 + offset, device="meta")[offset:]
    arguments = {"x": x, "out": x, "n": length, "absent": absent, "factor": 2.0}
    return Launch(copy, 1, arguments, {"TILE": 512}, {"num_warps": 4, "num_stages": 1})


CASES = {
    "fits": Case(lambda arch: tiles(torch.bfloat16, 64, 4), expects_wgmma=bool),
    "narrow": Case(lambda arch: tiles(torch.bfloat16, 32, 2), expects_wgmma=bool),
    "spills": Case(lambda arch: tiles(torch.bfloat16, 64, 1)),
    "fma": Case(lambda arch: tiles(torch.float32, 32, 4, "ieee"), precision="ieee"),
    "aligned": Case(lambda arch: [copies(992)]),
    "unaligned": Case(lambda arch: [copies(992, offset=1)]),
    "one": Case(lambda arch: [copies(1)]),
    "long": Case(lambda arch: [copies(2**32)]),
    "odd": Case(lambda arch: [copies(991)]),
    "two": Case(lambda arch: [copies(991), copies(991), copies(991, absent=torch.empty(1024, device="meta"))]),
    "broken": Case(lambda arch: [Launch(broken, 1, {"x": torch.empty(1, device="meta")}, {}, {"num_warps": 4})]),
}
"""


CASES = aot.load_cases()
PLAIN = CASES["window_attention/swinir/forward/shifted/bf16"]


def complaints(record: aot.Record, case: aot.Case, ceilings: aot.Ceilings, version: str) -> list[str]:
    """One sentence for each rule that a compiled case breaks; none if all is well."""
    name, arch = record["case"], record["arch"]
    place = f"case {name}, sm_{arch}, Triton {version}"
    if "error" in record:
        return [f"{place}: does not compile\n{record['error']}"]
    renew = f"if this is intended: python tests/kernels/aot.py --cases {name} --record, with Triton {version}"
    recorded = ceilings.get(version, {}).get(str(arch), {})
    known = recorded.get(name, {})
    found = []
    for kernel, got in record["kernels"].items():
        where = f"kernel {kernel}, {place}"
        if got["spill_bytes"] and case.precision != "ieee":
            found.append(f"{where}: spills {got['spill_bytes']} bytes, allowed 0; take a smaller tile or more warps")
        if arch == 90 and kernel in record["wgmma"] and "wgmma" not in got["matrix"]:
            found.append(f"{where}: matrix instruction {got['matrix']}, wanted wgmma")
        if recorded and kernel not in known and (known or not case.slow):
            found.append(f"{where}: has no recorded ceiling; {renew}")
        for key in ("registers", "shared_bytes", "stack_bytes") if kernel in known else ():
            if got[key] > known[kernel][key]:
                found.append(f"{where}: {key} {got[key]}, allowed {known[kernel][key]}; {renew}")
    return found


def compile_cases(folder: Path, *arguments: str) -> dict[tuple[str, int], Any]:
    """Run aot.py in a process that compiles: records by case and architecture, and the version under ("triton", 0)."""
    out = folder / "measured.json"
    command = [sys.executable, str(Path(aot.__file__)), "--json", str(out), *arguments]
    # Also in a run of the interpreter's tests the compiling process must not interpret.
    done = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert out.exists(), done.stderr
    measured = json.loads(out.read_text(encoding="utf-8"))
    return {("triton", 0): measured["triton"]} | {(r["case"], r["arch"]): r for r in measured["records"]}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Any]:
    folder = tmp_path_factory.mktemp("known")
    registry = folder / "known_kernels.py"
    registry.write_text(KNOWN_KERNELS, encoding="utf-8")
    return compile_cases(folder, "--registry", str(registry), "--arch", "80", "90", "100")


def cases() -> list[Any]:
    """All, of which the usual run compiles each case that is not slow for one architecture, in turn."""
    quick = [name for name, case in CASES.items() if not case.slow]
    taken = set(zip(quick, cycle(aot.ARCHITECTURES), strict=False))
    return [
        pytest.param(name, arch, id=f"{name}-sm_{arch}", marks=[] if (name, arch) in taken else [pytest.mark.slow])
        for name, arch in product(CASES, aot.ARCHITECTURES)
    ]


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Any]:
    """All cases of this run, compiled in one go: starting a process for each would take longer than compiling it."""
    wanted = [
        item.callspec.params
        for item in request.session.items
        if isinstance(item, pytest.Function) and "compiled" in item.fixturenames and not item.get_closest_marker("skip")
    ]
    names = (f"{params['name']}@{params['arch']}" for params in wanted)
    return compile_cases(tmp_path_factory.mktemp("compiled"), "--cases", *names)


@pytest.mark.parametrize(("name", "arch"), cases())
def test_a_configuration_keeps_to_its_ceilings(compiled: dict, name: str, arch: int) -> None:
    ceilings, version = json.loads(aot.CEILINGS.read_text(encoding="utf-8")), compiled["triton", 0]
    found = complaints(compiled[name, arch], CASES[name], ceilings, version)
    assert not found, "\n".join(found)
    if name not in ceilings.get(version, {}).get(str(arch), {}):
        pytest.skip(
            f"no ceilings of this case are recorded for Triton {version}, sm_{arch}: only spills and wgmma were checked"
        )


def test_the_document_is_the_recorded_table() -> None:
    ceilings = json.loads(aot.CEILINGS.read_text(encoding="utf-8"))
    assert aot.TABLE.read_text(encoding="utf-8") == aot.render(ceilings)


@pytest.mark.parametrize(("arch", "instruction"), [(80, "mma.sync"), (90, "wgmma"), (100, "tcgen05")])
def test_the_matrix_instruction_is_found(known: dict, arch: int, instruction: str) -> None:
    tile = known["fits", arch]["kernels"]["tile"]
    assert tile["matrix"] == instruction
    assert tile["spill_bytes"] == 0
    assert 32 < tile["registers"] <= 255
    assert tile["shared_bytes"] > 0
    assert known["fma", arch]["kernels"]["tile"]["matrix"] == "none"
    assert complaints(known["fits", arch], PLAIN, {}, "3.8") == []


@pytest.mark.parametrize("arch", [80, 90])
def test_a_spill_is_found(known: dict, arch: int) -> None:
    tile = known["spills", arch]["kernels"]["tile"]
    assert tile["spill_bytes"] > 0
    assert tile["stack_bytes"] > 0
    (complaint,) = complaints(known["spills", arch], PLAIN, {}, "3.8")
    assert complaint.startswith(f"kernel tile, case spills, sm_{arch}, Triton 3.8: spills {tile['spill_bytes']} bytes")
    assert complaints(known["spills", arch], replace(PLAIN, precision="ieee"), {}, "3.8") == []


def test_a_ceiling_is_kept(known: dict) -> None:
    record, name = known["fits", 90], "fits"
    (kernel,) = record["kernels"].items()
    exact = aot.merge({}, {"triton": "3.8", "records": [record]}, {name: PLAIN})
    assert complaints(record, PLAIN, exact, "3.8") == []
    lower = {"3.8": {"90": {name: {kernel[0]: kernel[1] | {"registers": kernel[1]["registers"] - 1}}}}}
    (complaint,) = complaints(record, PLAIN, lower, "3.8")
    assert f"kernel tile, case fits, sm_90, Triton 3.8: registers {kernel[1]['registers']}, allowed" in complaint
    assert "aot.py --cases fits --record" in complaint
    assert complaints(record, PLAIN, lower, "3.9") == []
    (complaint,) = complaints(record, PLAIN, {"3.8": {"90": {"another": {}}}}, "3.8")
    assert "no recorded ceiling" in complaint


def test_a_tile_too_narrow_for_wgmma_is_found(known: dict) -> None:
    (complaint,) = complaints(known["narrow", 90], PLAIN, {}, "3.8")
    assert complaint == "kernel tile, case narrow, sm_90, Triton 3.8: matrix instruction mma.sync, wanted wgmma"
    assert complaints(known["narrow", 80], PLAIN, {}, "3.8") == []


def test_arguments_are_specialised_as_at_a_launch(known: dict) -> None:
    def of(case: str) -> dict[str, str]:
        return known[case, 90]["types"]["copy"]

    plain = {"x": "*fp32/16", "out": "*fp32/16", "n": "i32/16", "absent": "constexpr", "factor": "fp32"}
    assert of("aligned") == plain | {"TILE": "constexpr"}
    assert of("odd")["n"] == "i32"
    assert of("one")["n"] == "constexpr"
    assert of("long")["n"] == "i64/16"
    assert of("unaligned")["x"] == "*fp32"


def test_launches_of_one_kernel_are_told_apart_by_what_they_take(known: dict) -> None:
    assert list(known["two", 90]["kernels"]) == ["copy", "copy#2"]


def test_a_kernel_that_does_not_compile_is_a_complaint(known: dict) -> None:
    (complaint,) = complaints(known["broken", 90], PLAIN, {}, "3.8")
    assert "case broken, sm_90, Triton 3.8: does not compile" in complaint
    assert "undefined_name" in complaint
