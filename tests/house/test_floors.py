"""The house: imports point down, never in a circle, and no source file is longer than 300 lines."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"sr_engine": ROOT / "sr_engine", "sr_kernels": ROOT / "kernels" / "sr_kernels"}
FLOORS = {
    "sr_engine.cli": 6,
    "sr_engine.train": 5,
    "sr_engine.infer": 4,
    "sr_engine.export": 4,
    "sr_engine.compress": 4,
    "sr_engine.models": 3,
    "sr_engine.losses": 3,
    "sr_engine.metrics": 3,
    "sr_engine.data": 3,
    "sr_engine.dropin": 3,
    "sr_engine.layers": 2,
    "sr_engine.convert": 2,
    "sr_engine.config": 1,
    "sr_engine.errors": 1,
    "sr_engine.device": 1,
    "sr_engine.refused": 1,
    "sr_engine.allocator": 1,
    "sr_engine.atomic": 1,
    "sr_engine.version": 1,
    "sr_kernels": 0,
}
# The roof: the package's own front door and `python -m sr_engine`.
ROOF = {"sr_engine", "sr_engine.__main__"}
SIBLINGS_APART = {3, 4}


def _modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = _modules()


def _room(module: str) -> str:
    return max((room for room in FLOORS if module == room or module.startswith(f"{room}.")), key=len, default="")


def _imports(path: Path, *, at_load_time: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _load_time_nodes(tree) if at_load_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def _load_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Everything executed when the module is imported: no function bodies, no `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        type_checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not type_checking:
            yield child
            yield from _load_time_nodes(child)


def test_every_module_belongs_to_a_floor() -> None:
    homeless = [module for module in MODULES if module not in ROOF and not _room(module)]
    assert not homeless, f"modules of no known room: {homeless}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    if module in ROOF:
        return
    room = _room(module)
    for target in _imports(MODULES[module]):
        if target.split(".")[0] not in PACKAGES:
            continue
        assert target != "sr_engine", f"{module} imports the front door; import the module that defines the name"
        below = _room(target)
        upward = f"{module} (floor {FLOORS[room]}) imports {target} (floor {FLOORS[below]})"
        assert FLOORS[below] <= FLOORS[room], upward
        if FLOORS[room] in SIBLINGS_APART:
            assert below == room or FLOORS[below] < FLOORS[room], f"{module} imports its sibling {target}"


def test_kernels_stand_alone() -> None:
    allowed = {"torch", "triton", "numpy", "sr_kernels"}
    for module, path in MODULES.items():
        if module.startswith("sr_kernels"):
            foreign = {name.split(".")[0] for name in _imports(path)} - allowed - set(sys.stdlib_module_names)
            assert not foreign, f"{module} imports {foreign}; the kernels need torch and triton only"


def test_no_import_circles() -> None:
    graph = {m: {t for t in _imports(p, at_load_time=True) if t in MODULES} for m, p in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import circle: {' -> '.join((*trail[trail.index(module) :], module))}"
        if module not in done:
            for target in graph[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_source_files_stay_short() -> None:
    folders = [*PACKAGES.values(), ROOT / "bench", ROOT / "tests"]
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for f in folders for p in f.rglob("*.py")}
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > 300}
    assert not long, f"files over 300 lines: {long}"
