"""Compile launches ahead of time, without a GPU, and say what each costs: registers, spills, shared memory.

    python tests/kernels/aot.py --cases NAME... --arch 90 --json OUT     # compile, write what was measured; or NAME@90
    python tests/kernels/aot.py --all --record                           # renew aot_ceilings.json and RESOURCES.md

`CASES` in aot_OPERATION.py names what is compiled: lists of `sr_kernels.launch.Launch`, made of `meta` tensors.
Importing these files imports neither triton nor a kernel.
A process that runs Triton's interpreter cannot compile, so this file compiles as a script.
"""

import argparse
import contextlib
import io
import json
import os
import re
import runpy
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOM = Path(__file__).resolve().parent
ROOT = ROOM.parents[1]
CEILINGS = ROOM / "aot_ceilings.json"
TABLE = ROOT / "kernels" / "RESOURCES.md"
ARCHITECTURES = (80, 90, 100)
# The spelling of each generation's matrix instruction in PTX; dots that became plain FMAs show none of them.
MATRIX = {"wgmma": "wgmma.mma_async", "tcgen05": "tcgen05.mma", "mma.sync": "mma.sync"}
PRECISIONS = ("bf16", "fp16", "tf32x3", "tf32", "ieee")
Record = dict[str, Any]
Ceilings = dict[str, dict[str, dict[str, dict[str, Record]]]]
"""Triton version "major.minor" -> architecture -> case -> kernel -> `Resources` as a dict."""


@dataclass(frozen=True)
class Case:
    """What one test compiles.

    Args:
        launches: makes the launches for an architecture; called in the compiling process only.
        precision: "bf16", "fp16", "tf32x3", "tf32", "ieee", or "fp32" without products; spills of "ieee" are allowed.
        slow: whether the case is left to `pytest -m slow` and `--all`.
        expects_wgmma: which of the launches must use wgmma on sm_90; None: none.
    """

    launches: Callable[[int], list[Any]]
    precision: str = "bf16"
    slow: bool = False
    expects_wgmma: Callable[[Any], bool] | None = None


@dataclass(frozen=True)
class Resources:
    """Per thread but for the shared memory, which is per program; `matrix` is instructions joined by "+", or "none"."""

    registers: int
    spill_bytes: int  # stores and loads
    stack_bytes: int
    shared_bytes: int
    matrix: str


def compile_launch(launch: Any, arch: int) -> tuple[Resources, dict[str, str]]:
    """Compile as `launch.run()` would for a GPU of this architecture (90 is sm_90); also the types of all arguments.

    Triton's own argument binder specialises: an int that is 1 becomes a constant; one divisible by 16 and a pointer
    aligned to 16 bytes are marked so, in the types by "/16". A `meta` tensor's address is its storage offset in bytes,
    so a view that starts unaligned (`buffer[1:]`) is unaligned. Needs TRITON_ALWAYS_COMPILE=1 and
    TRITON_DUMP_PTXAS_LOG=1: a cached kernel has no log of the assembler.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile, make_backend
    from triton.runtime.jit import create_function_from_signature

    kernel, backend = launch.kernel, make_backend(GPUTarget("cuda", arch, 32))
    given = {**launch.arguments, **launch.constants, **launch.options, "enable_fp_fusion": True}
    bound, specialization, rest = create_function_from_signature(kernel.signature, kernel.params, backend)(**given)
    options, signature, constants, attributes = kernel._pack_args(backend, given, bound, specialization, rest)
    with contextlib.redirect_stdout(io.StringIO()) as log:
        source = ASTSource(kernel, signature, constants, attributes)
        compiled = compile(source, target=backend.target, options=options.__dict__)
    marked = {path[0] for path, found in attributes.items() if ["tt.divisibility", 16] in found}
    types = {name: f"{kind}/16" if i in marked else str(kind) for i, (name, kind) in enumerate(signature.items())}
    return read_resources(log.getvalue(), compiled.asm["ptx"], compiled.metadata.shared), types


def read_resources(log: str, ptx: str, shared: int) -> Resources:
    """From the output of `ptxas -v`, the PTX, and the bytes of shared memory that Triton asks for at launch."""
    used, spilled, stack = (
        [int(n) for n in re.findall(rf"{before}(\d+) {after}", log)]
        for before, after in (("Used ", "registers"), ("", "bytes spill"), ("", "bytes stack frame"))
    )
    if not used:
        raise ValueError(f"ptxas did not say how many registers it used, but {log!r}")
    found = [name for name, instruction in MATRIX.items() if instruction in ptx]
    return Resources(max(used), sum(spilled), sum(stack), shared, "+".join(found) or "none")


def compile_case(registry: Path | None, name: str, arch: int) -> Record:
    """Case, architecture, and by kernel: resources, types, whether it must use wgmma; or "error" instead of these."""
    case = load_cases(registry)[name]
    kernels: dict[str, Record] = {}
    types: dict[str, Record] = {}
    wanted = []
    try:
        for launch in case.launches(arch):
            resources, arguments = compile_launch(launch, arch)
            got, label, count = asdict(resources), launch.kernel.__name__, 1
            while label in kernels and (kernels[label], types[label]) != (got, arguments):
                count += 1  # the same kernel launched again, specialised differently
                label = f"{launch.kernel.__name__}#{count}"
            kernels[label], types[label] = got, arguments
            if case.expects_wgmma and case.expects_wgmma(launch) and label not in wanted:
                wanted.append(label)
    except Exception:
        return {"case": name, "arch": arch, "error": traceback.format_exc()}
    return {"case": name, "arch": arch, "kernels": kernels, "types": types, "wgmma": wanted}


@cache
def load_cases(registry: Path | None = None) -> dict[str, Case]:
    """`CASES` of one file, or of all files aot_OPERATION.py beside this one."""
    sys.path.insert(0, str(ROOM))  # they import `aot`
    try:
        found = [
            runpy.run_path(str(path))["CASES"] for path in ([registry] if registry else sorted(ROOM.glob("aot_*.py")))
        ]
    finally:
        sys.path.remove(str(ROOM))
    return {name: case for cases in found for name, case in cases.items()}


def merge(ceilings: Ceilings, measured: Record, cases: Mapping[str, Case]) -> Ceilings:
    """`ceilings` with what was measured; of this Triton's, cases that no longer exist are dropped."""
    old = ceilings.get(measured["triton"], {})
    new = {arch: {name: found for name, found in of.items() if name in cases} for arch, of in old.items()}
    for record in measured["records"]:
        if "error" not in record:
            new.setdefault(str(record["arch"]), {})[record["case"]] = record["kernels"]
    return ceilings | {measured["triton"]: new}


def render(ceilings: Ceilings) -> str:
    """RESOURCES.md: a table for each Triton version, a line for each kernel of each case."""
    lines = [
        "# What the kernels take",
        "",
        "Registers per thread, bytes of shared memory per program, matrix instruction, bytes of spill where any,",
        "as compiled by each Triton's own ptxas. `tests/kernels/test_aot.py` fails when a default grows.",
        "Written by `python tests/kernels/aot.py --record`.",
    ]
    for triton in sorted(ceilings, key=lambda text: [int(n) for n in text.split(".")]):
        arches = sorted(ceilings[triton], key=int)
        rows = {(name, kernel) for a in arches for name, of in ceilings[triton][a].items() for kernel in of}
        lines += ["", f"## Triton {triton}", "", "| case | kernel | " + " | ".join(f"sm_{a}" for a in arches) + " |"]
        lines += ["|---|---|" + "---|" * len(arches)]
        for name, kernel in sorted(rows):
            cells = [_cell(ceilings[triton][arch].get(name, {}).get(kernel)) for arch in arches]
            lines.append(f"| {name} | `{kernel}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(got: Record | None) -> str:
    if got is None:
        return "-"
    spill = f", spills {got['spill_bytes']}" * bool(got["spill_bytes"])
    return f"{got['registers']}, {got['shared_bytes']}, {got['matrix']}{spill}"


def write_ceilings(ceilings: Ceilings) -> None:
    """CEILINGS with one line for each kernel, so that a change reads well as a diff, and TABLE."""
    text = json.dumps(ceilings, indent=1, sort_keys=True)
    text = re.sub(r"\{[^{}]*\}", lambda leaf: " ".join(leaf[0].split()), text)
    CEILINGS.write_text(text + "\n", encoding="utf-8")
    TABLE.write_text(render(ceilings), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compile kernels ahead of time and measure their resources.")
    parser.add_argument("--cases", nargs="+", default=[], metavar="NAME[@ARCH]", help="default: all but the slow")
    parser.add_argument("--all", action="store_true", help="the slow cases too")
    parser.add_argument("--arch", nargs="+", type=int, default=list(ARCHITECTURES))
    parser.add_argument("--json", type=Path, help="write what was measured")
    parser.add_argument("--record", action="store_true", help=f"make it the ceiling: {CEILINGS.name}, {TABLE.name}")
    parser.add_argument("--registry", type=Path, help="another file that defines CASES")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(argv)
    cases = load_cases(options.registry)
    names = options.cases or [name for name, case in cases.items() if options.all or not case.slow]
    parts = [name.partition("@") for name in names]
    if wrong := [arch for _, at, arch in parts if at and not arch.isdecimal()]:
        parser.error(f"expected NAME@ARCH, such as NAME@90, got '{wrong[0]}' for ARCH")
    wanted = [(name, [int(arch)] if at else options.arch) for name, at, arch in parts]
    if unknown := sorted({name for name, _ in wanted} - set(cases)):
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(cases)}")
    import triton

    tasks = [(options.registry, name, arch) for name, arches in wanted for arch in arches]
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"TRITON_CACHE_DIR": cache, "TRITON_ALWAYS_COMPILE": "1", "TRITON_DUMP_PTXAS_LOG": "1"}
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            records = list(pool.map(compile_case, *zip(*tasks, strict=True)))
    measured = {"triton": ".".join(triton.__version__.split(".")[:2]), "records": records}
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    if options.record:
        ceilings: Ceilings = json.loads(CEILINGS.read_text(encoding="utf-8")) if CEILINGS.exists() else {}
        write_ceilings(merge(ceilings, measured, cases))
    for record in records:
        for kernel, got in record.get("kernels", {"": record.get("error")}).items():
            print(f"{record['case']} sm_{record['arch']} {kernel}: {_cell(got) if kernel else got}")
    return any("error" in record for record in records)


if __name__ in ("__main__", "__mp_main__"):
    sys.path.insert(0, str(ROOT / "kernels"))
    os.environ.pop("TRITON_INTERPRET", None)
if __name__ == "__main__":
    sys.exit(main())
