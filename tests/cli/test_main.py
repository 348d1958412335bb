"""The command line as a whole: help without torch, exit codes, one sentence for each error of a user."""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from sr_engine.cli import main as cli
from sr_engine.cli import train
from sr_engine.errors import EngineError

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sr_engine", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A verb `train` that does what its `action` says."""
    module = ModuleType("fake_verb")
    module.HELP = "a verb"  # type: ignore[attr-defined]
    module.add_arguments = lambda parser: parser.add_argument("values", nargs="*")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_verb", module)
    monkeypatch.setitem(cli.VERBS, "train", "fake_verb")
    return module


def failing(verb: ModuleType, error: BaseException) -> None:
    def action(_: object) -> int:
        raise error

    verb.run = action  # type: ignore[attr-defined]


def test_help_lists_every_verb_and_imports_no_torch() -> None:
    code = "import sys; from sr_engine.cli.main import main; main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(f"  {name} " in done.stdout for name in cli.VERBS)


@pytest.mark.parametrize("name", cli.VERBS)
def test_help_of_a_verb_imports_no_torch(name: str) -> None:
    code = (
        "import sys; from sr_engine.cli.main import main\n"
        f"try: main(['{name}', '--help'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"
    assert "--debug" in done.stdout


def test_help_takes_little_processor_time() -> None:
    before = os.times()
    started = time.perf_counter()
    run("--help")
    after = os.times()
    seconds = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    # Processor time: other work on the machine delays the clock, not this.
    assert seconds < 0.5, f"{seconds:.2f} s of processor time, {time.perf_counter() - started:.2f} s in all"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sr-engine")


def test_no_verb_and_an_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err == (
        f"sr-engine: error: unknown verb 'trian' (did you mean 'train'?); known are: {', '.join(cli.VERBS)}.\n"
    )


def test_the_code_of_a_verb_is_returned(verb: ModuleType) -> None:
    verb.run = lambda args: len(args.values)  # type: ignore[attr-defined]
    assert cli.main(["train"]) == 0
    assert cli.main(["train", "some", "--debug", "failed"]) == 2


def test_an_error_of_the_user_is_one_sentence(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    failing(verb, EngineError("model 'x' is missing."))
    assert cli.main(["train"]) == 2
    assert capsys.readouterr().err == "sr-engine: error: model 'x' is missing.\n"
    assert cli.main(["train", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_errors_of_files_and_implementations_are_sentences(
    verb: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    from sr_kernels.dispatch import ImplUnavailableError

    failing(verb, OSError(28, "No space left on device", "runs/x4/model.safetensors"))
    assert cli.main(["train"]) == 2
    assert capsys.readouterr().err == "sr-engine: error: runs/x4/model.safetensors: No space left on device.\n"
    failing(verb, ImplUnavailableError("no Triton here"))
    assert cli.main(["train"]) == 2
    assert capsys.readouterr().err == "sr-engine: error: no Triton here\n"


def test_a_defect_shows_where_it_is(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    failing(verb, ZeroDivisionError("oops"))
    assert cli.main(["train"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    failing(verb, KeyboardInterrupt())
    assert cli.main(["train"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_three_typos_in_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yml"
    file.write_text(
        (ROOT / "configs" / "x4.yml").read_text().replace("\nscale: 4", "\nscal: 4").replace("tiny", "tinny")
    )
    argv = ["train", str(file), "training.total_iters=3", "--output", str(tmp_path / "run"), "training.seed=1"]
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, *lines = err.splitlines()
    assert first == "sr-engine: error:"
    assert len(lines) == 3
    assert re.search(r"c\.yml:\d+: scal: expected a known key, got 'scal' \(did you mean 'scale'\?\)$", lines[0])
    assert re.search(r"c\.yml:\d+: network_g\.preset: expected .*\(did you mean 'tiny'\?\)$", lines[1])
    assert lines[2].startswith("command line: training.total_iters: ")
    assert not (tmp_path / "run").exists()


def test_overrides_may_stand_among_options(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}

    def note(args: argparse.Namespace) -> int:
        given.update(vars(args))
        return 0

    monkeypatch.setattr(train, "run", note)
    argv = ["train", "c.yml", "a=1", "--resume", "none", "b=-2", "--dry-run"]
    assert cli.main(argv) == 0
    assert given["overrides"] == ["a=1", "b=-2"]
    assert (given["config"], given["resume"], given["dry_run"], given["output"]) == (Path("c.yml"), "none", True, None)


def test_a_configuration_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "configs/none.yml"]) == 2
    assert capsys.readouterr().err == (
        "sr-engine: error: configs/none.yml: no such configuration file; configs/ holds examples.\n"
    )


def test_the_module_is_the_command() -> None:
    done = run("upscalee")
    assert done.returncode == 2
    assert "did you mean 'upscale'?" in done.stderr


def test_info_tells_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    for word in (
        "torch",
        "precision auto",
        "window_attention",
        "magic_resample",
        "content_stats",
        "generator",
        "bicubic",
    ):
        assert word in out
    assert cli.main(["info", "--device", "cuda:99"]) == 2


def test_schema_writes_files(tmp_path: Path) -> None:
    assert cli.main(["schema", "-o", str(tmp_path / "s.json")]) == 0
    assert '"network_g.generator"' in (tmp_path / "s.json").read_text()
    assert cli.main(["schema", "--markdown", "-o", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text().startswith("# Configuration")


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise on Windows")
def test_a_reader_that_goes_away_is_no_error() -> None:
    sample = ROOT / "tests" / "convert" / "options" / "basicsr_swinir.yml"
    command = [sys.executable, "-m", "sr_engine", "convert", str(sample)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == cli.BROKEN_PIPE
