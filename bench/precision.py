"""What number formats cost a super-resolution network: quality, banding, time, size. Writes docs/precision.md.

    python -m bench.precision --model tiny-x4 --test Set5=DIR --test BSD100=DIR --calibrate DIR -o docs/precision.md

`--test NAME=DIR` is a folder of high-resolution pictures, scored by the protocol of `sr-engine eval`; the last one is
what the summary speaks of. `--calibrate DIR` are other pictures: of `--pictures N`, evenly spread over the folder,
every second one gives the ranges of the 8-bit formats; on the others the best way to choose ranges is found, so that
no test picture takes part in a choice. `--limit N` takes the first N pictures of each test set, for a trial.
"""

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from bench import formats, machine, precision_page, quantised
from bench.banding import banding
from bench.formats import Format, upscaler
from bench.precision_page import Chosen, Row
from sr_engine.atomic import atomic_write, check_target
from sr_engine.data import EvalPair
from sr_engine.errors import DataError, EngineError
from sr_engine.export import export_onnx
from sr_engine.infer.evaluate import EvalReport, evaluate, folder_pairs
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.files import find_model

ROUNDS = 15
SIDE = 128  # of the picture that is timed

Pairs = Sequence[EvalPair]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        check_target(options.output, (".md",))
        written = run(options, words)
    except EngineError as error:
        print(f"bench.precision: error: {error}")
        return 2
    print(f"-> {options.output}\n\nfor sr_engine/refused.py:")
    for line in written:
        print(f"  {line}")
    return 0


def run(options: argparse.Namespace, words: Sequence[str]) -> list[str]:
    """Measure, write the page; the sentences of its summary.

    Raises:
        EngineError: a model or folder that cannot be used.
    """
    start = time.perf_counter()
    torch.set_num_threads(options.threads or machine.cores())
    reference = upscaler(options.model)
    tests = {name: _first(folder_pairs(path, scale=reference.scale), options.limit) for name, path in options.test}
    calibration, held = _split(folder_pairs(options.calibrate, scale=reference.scale), options.pictures)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        chosen = build(options.model, Path(folder), calibration, held)
        rows = []
        for one in chosen.formats:
            _progress(start, one.name)
            scores = {name: _scored(one.up, pairs) for name, pairs in tests.items()}
            rows.append(Row(one, banding(one.up), scores))
        _progress(start, "times")
        time_in_turns([row for row in rows if row.format.timed], options.side, options.rounds)
        facts = {
            "command": f"python -m bench.precision {shlex.join(words)}",
            "model": options.model,
            "scale": reference.scale,
            "limit": options.limit,
            "calibration": f"{len(calibration)} pictures of {Path(options.calibrate).name}",
            "held": f"{len(held)} others",
            "side": options.side,
            "rounds": options.rounds,
            "threads": torch.get_num_threads(),
            "machine": machine.fingerprint("cpu"),
            "versions": machine.versions(),
            "commit": machine.commit(),
            "when": datetime.now(UTC).strftime("%Y-%m-%d"),
            "minutes": (time.perf_counter() - start) / 60,
        }
    with atomic_write(options.output) as temporary:
        Path(temporary).write_text(precision_page.page(rows, chosen, facts), encoding="utf-8")
    return list(precision_page.refusals(rows).values())


def build(model: str, folder: Path, calibration: Pairs, held: Pairs) -> Chosen:
    """Every format of a model; files go to `folder`. The first is fp32 in torch, which the others are compared with."""
    net = upscaler(model).net
    pictures = [pair.lr for pair in calibration]
    source, half = folder / "fp32.onnx", folder / "fp16.onnx"
    export_onnx(net, source, precision="fp32")
    export_onnx(net, half, precision="fp16")
    names = formats.convolutions(net)
    weights = [net.get_submodule(name).get_parameter("weight") for name in names]
    nodes = quantised.convolution_nodes(source, weights)
    if len(nodes) != len(names):
        raise DataError(f"{model}: expected its {len(names)} convolutions in the exported file, found {len(nodes)}.")

    found = list(quantised.candidates(source, folder, pictures, nodes))
    by_name = {one.name: one for one in found}
    choices = {"INT8": _ranked({one.name: _onnx(one.file, net) for one in found}, held)}
    best = by_name[next(iter(choices["INT8"]))]
    partly = folder / "int8-inner.onnx"
    quantised.quantise(source, partly, pictures, nodes[1:-1], best.calibration, symmetric=best.symmetric)

    ranges = formats.calibrated(net, pictures)
    kinds = {
        "FP8": (formats.fp8_weights, formats.fp8_inputs),
        "INT8, inputs and weights alone": (formats.int8_weights, formats.int8_inputs),
    }
    own = find_model(model).stat().st_size
    rows = [
        Format("fp32", "torch", upscaler(model), own),
        Format("bf16", "torch, autocast", upscaler(model, torch.bfloat16), own),
        Format("fp16", "torch, autocast", upscaler(model, torch.float16), own),
        Format("fp32, exported", "onnxruntime", _onnx(source, net), source.stat().st_size),
        Format("fp16, exported", "onnxruntime", _onnx(half, net), half.stat().st_size),
        Format("INT8", "onnxruntime", _onnx(best.file, net), best.file.stat().st_size),
        Format("INT8, first and last in fp32", "onnxruntime", _onnx(partly, net), partly.stat().st_size),
    ]
    for kind, rounding in kinds.items():
        tried = {name: upscaler(formats.emulated(net, one, *rounding)) for name, one in ranges.items()}
        choices[kind] = _ranked(tried, held)
        way = next(iter(choices[kind]))
        inner = upscaler(formats.emulated(net, formats.inner(ranges[way]), *rounding))
        rows.append(Format(kind, "emulated", tried[way], timed=False))
        rows.append(Format(f"{kind}, first and last in fp32", "emulated", inner, timed=False))
    return Chosen(rows, choices, quantised.integer_error(best.file, net, pictures[0]), len(names))


def time_in_turns(rows: Sequence[Row], side: int, rounds: int) -> None:
    """Milliseconds of whole calls on one picture of `side` pixels; every format takes its turn in every round."""
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    for row in rows:
        row.format.up(picture)
    for _ in range(rounds):
        for row in rows:
            start = time.perf_counter()
            row.format.up(picture)
            row.milliseconds.append(1e3 * (time.perf_counter() - start))


def _ranked(tried: Mapping[str, Upscaler], held: Pairs) -> dict[str, float]:
    means = {name: _scored(up, held).mean().psnr_y for name, up in tried.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def _scored(up: Upscaler, pairs: Pairs) -> EvalReport:
    return evaluate(up, pairs, scale=up.scale)


def _onnx(file: Path, net: torch.nn.Module) -> Upscaler:
    return upscaler(quantised.Session(file, net))


def _first(pairs: Pairs, limit: int | None) -> Pairs:
    return [pairs[k] for k in range(len(pairs) if limit is None else min(limit, len(pairs)))]  # read once


def _split(pairs: Pairs, count: int) -> tuple[Pairs, Pairs]:
    """`count` pictures evenly spread, every second one to calibrate with, the others to choose by."""
    if len(pairs) < count:
        raise DataError(f"--calibrate: expected at least {count} pictures, found {len(pairs)} (see --pictures).")
    chosen = [pairs[k * len(pairs) // count] for k in range(count)]
    return chosen[::2], chosen[1::2]


def _progress(start: float, what: str) -> None:
    print(f"{time.perf_counter() - start:6.0f} s  {what}", flush=True)


def _test(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=DIR, got '{text}'")
    return name, path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench.precision", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="tiny-x4", metavar="NAME|PATH", help="(tiny-x4)")
    parser.add_argument("--test", type=_test, action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--calibrate", required=True, metavar="DIR")
    parser.add_argument("--pictures", type=int, default=32, help="of --calibrate, for ranges and for choosing (32)")
    parser.add_argument("--limit", type=int, help="of each test set, its first pictures")
    parser.add_argument("--side", type=int, default=SIDE, help=f"of the picture that is timed ({SIDE})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the timing ({ROUNDS})")
    parser.add_argument("--threads", type=int, help="of torch and onnxruntime (the cores there are)")
    parser.add_argument("-o", "--output", default="docs/precision.md", metavar="FILE", help="(docs/precision.md)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
