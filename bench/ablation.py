"""Do the content-aware parts of the generator earn their place? Trains it without and with each and compares.

    python bench/ablation.py --photos DIR --test DIR --seeds 3 --steps 1500 --out DIR

`off` has neither part: its upsampler has one learned gain for each stencil, the same for all pixels. `film` lets the
content modulate the features, `steer` lets it set the upsampler's gains for each pixel, `both` has both. Within a seed
every variant sees the same patches in the same order and starts from the same weights (what only a variant has starts
as nothing: zero), and the averaged weights are scored. Finished runs are not repeated, interrupted ones continue;
DIR/table.md and DIR/results.jsonl are written anew after each run. `--preset resampler --variants off steer` compares
the upsampler alone, without a network.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from bench.ablation_score import milliseconds, score  # noqa: E402
from sr_engine.atomic import atomic_write  # noqa: E402
from sr_engine.config.load import dump_config, parse_config  # noqa: E402
from sr_engine.config.schema import Config  # noqa: E402
from sr_engine.infer.evaluate import folder_pairs  # noqa: E402
from sr_engine.infer.regions import REGIONS  # noqa: E402
from sr_engine.infer.upscaler import Upscaler  # noqa: E402
from sr_engine.models.files import build_model, load_model, read_model_file, save_model  # noqa: E402
from sr_engine.train import run as train  # noqa: E402

SCALE = 4
OFF = "off"
VARIANTS = {
    OFF: {"film": False, "steer": False},
    "film": {"film": True, "steer": False},
    "steer": {"film": False, "steer": True},
    "both": {"film": True, "steer": True},
}
RECIPE = """
name: {variant}-{seed}
scale: {scale}
load_from: {start}
network_g: {{type: generator, preset: {preset}, film: {film}, steer: {steer}}}
datasets: {{train: {{type: folder, path: {photos}}}}}
losses: {{pixel: {{type: charbonnier}}}}
training:
  total_iter: {steps}
  batch_size: {batch}
  patch_size: {patch}
  optim_g: {{type: AdamW, lr: 2e-3, betas: [0.9, 0.99]}}
  scheduler: {{type: cosine, warmup_iter: {warmup}, min_lr: 1e-6}}
  ema_decay: 0.99
  precision: fp32
  seed: {seed}
  checkpoint_every: 500
  keep_last: 1
logging: {{print_every: 100, tensorboard: false}}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    pairs = folder_pairs(args.test, scale=SCALE)
    done: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        for variant in args.variants:
            folder = args.out / f"{variant}-{seed}"
            done.append(_scored(_trained(args, variant, seed, folder), variant, seed, folder, pairs, args))
            _write(args, done)
    nets = {variant: load_model(args.out / f"{variant}-0") for variant in args.variants}
    _write(args, done, milliseconds(nets))
    print((args.out / "table.md").read_text(encoding="utf-8"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photographs to train on")
    parser.add_argument("--test", type=Path, required=True, metavar="DIR", help="photographs to score on")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the runs and the table")
    parser.add_argument("--seeds", type=int, default=3, help="(3)")
    parser.add_argument("--steps", type=int, default=1500, help="iterations of a run (1500)")
    parser.add_argument("--batch", type=int, default=8, help="patches in a batch (8)")
    parser.add_argument("--patch", type=int, default=32, help="side of a patch in low-resolution pixels (32)")
    parser.add_argument("--preset", default="nano", help="of the generator (nano)")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="NAME",
        help="off film steer both (all)",
    )
    return parser


def _trained(args: argparse.Namespace, variant: str, seed: int, folder: Path) -> Config:
    """Train the variant in `folder`, unless that is done; continue it if it was interrupted."""
    config = _config(args, variant, seed)
    known = folder / "config.yml"
    if known.exists() and known.read_text(encoding="utf-8") != dump_config(config):
        raise SystemExit(f"{folder} holds a run with other settings: choose another --out, or remove it.")
    if not (folder / "model.safetensors").exists():
        print(f"{datetime.now(UTC):%H:%M} training {folder.name}", flush=True)
        start = time.perf_counter()
        train(config, output=folder)
        record = {"commit": _commit(), "seconds": round(time.perf_counter() - start)}
        _save(folder / "trained.json", json.dumps(record))
    return config


def _config(args: argparse.Namespace, variant: str, seed: int) -> Config:
    return parse_config(
        RECIPE.format(
            variant=variant,
            seed=seed,
            scale=SCALE,
            start=json.dumps(str(_start(args, seed).absolute())),
            photos=json.dumps(str(args.photos.absolute())),
            preset=args.preset,
            steps=args.steps,
            warmup=min(20, args.steps // 10),
            batch=args.batch,
            patch=args.patch,
            **{key: str(value).lower() for key, value in VARIANTS[variant].items()},
        )
    )


def _start(args: argparse.Namespace, seed: int) -> Path:
    """The weights that all variants of a seed start from: those of a new network without either part."""
    path = args.out / f"start-{seed}.safetensors"
    if not path.exists():
        torch.manual_seed(seed)
        save_model(path, build_model("generator", {"scale": SCALE, "preset": args.preset, **VARIANTS[OFF]}))
    return path


def _scored(
    config: Config, variant: str, seed: int, folder: Path, pairs: Any, args: argparse.Namespace
) -> dict[str, Any]:
    """What is known of a finished run; its scores are kept beside its weights."""
    kept = folder / "scores.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    scores = score(Upscaler(folder, precision="fp32"), pairs, SCALE)
    trained = folder / "trained.json"
    row = {
        "variant": variant,
        "seed": seed,
        **scores,
        "parameters": read_model_file(folder).spec.parameters,
        "preset": args.preset,
        "steps": config.training.total_iter,
        "batch_size": config.training.batch_size,
        "patch_size": config.training.patch_size,
        "photos": args.photos.name,
        "test": args.test.name,
        **(json.loads(trained.read_text(encoding="utf-8")) if trained.exists() else {}),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _save(kept, json.dumps(row))
    print(f"{datetime.now(UTC):%H:%M} {folder.name}: {row['psnr_y']:.3f} dB", flush=True)
    return row


def _write(args: argparse.Namespace, rows: Sequence[dict[str, Any]], times: Mapping[str, float] | None = None) -> None:
    _save(args.out / "results.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    _save(args.out / "table.md", "\n".join(table(rows, times or {})) + "\n")


def table(rows: Sequence[dict[str, Any]], times: Mapping[str, float]) -> Iterator[str]:
    """Lines of Markdown: the scores of each variant over the seeds, then the differences to `off` seed by seed.

    Args:
        rows: of results.jsonl.
        times: milliseconds of a picture by variant; may be empty.
    """
    runs = {variant: [row for row in rows if row["variant"] == variant] for variant in VARIANTS}
    runs = {variant: some for variant, some in runs.items() if some}
    first = rows[0]
    shares = ", ".join(f"{name} {first['shares'][name]:.0%}" for name in REGIONS)
    commits = ", ".join(sorted({row.get("commit", "unknown") for row in rows}))
    size = f"{first['patch_size']}x{first['patch_size']}"
    batch = f"{first['batch_size']} patches of {size} of {first['photos']}"
    yield f"{first['preset']} x{SCALE}, {first['steps']} steps of {batch}."
    yield f"PSNR-Y in dB on {first['test']} ({len(first['images'])} pictures; of their pixels {shares})."
    yield f"Commit {commits}; {first['machine']}; torch {first['torch']}."
    yield ""
    head = ["all", *REGIONS]
    yield "mean over seeds ± standard deviation of a seed"
    yield ""
    yield from _header("variant", "seeds", *head, "weights", "ms, 320x180")
    for variant, some in runs.items():
        columns = [_spread([_value(row, name) for row in some], ".3f") for name in head]
        cost = f"{times[variant]:.1f}" if variant in times else "-"
        yield _line(variant, len(some), *columns, some[0]["parameters"], cost)
    yield ""
    yield f"difference to `{OFF}`, paired by seed: mean ± standard error; [each seed]"
    yield ""
    yield from _header("variant", *head, "each seed, all")
    base = {row["seed"]: row for row in runs.get(OFF, [])}
    for variant, some in runs.items():
        paired = [(row, base[row["seed"]]) for row in some if variant != OFF and row["seed"] in base]
        if paired:
            gains = {name: [_value(row, name) - _value(off, name) for row, off in paired] for name in head}
            each = ", ".join(f"{gain:+.3f}" for gain in gains["all"])
            yield _line(variant, *(_spread(gains[name], "+.3f", len(paired)) for name in head), f"[{each}]")


def _value(row: dict[str, Any], name: str) -> float:
    return row["psnr_y"] if name == "all" else row["regions"][name]


def _spread(values: Sequence[float], form: str, count: int = 1) -> str:
    """Mean ± standard deviation / sqrt(count)."""
    mean = f"{statistics.fmean(values):{form}}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values) / math.sqrt(count):.3f}"


def _header(*cells: str) -> Iterator[str]:
    yield _line(*cells)
    yield _line(*("---" for _ in cells))


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _commit() -> str:
    """The commit of the code, with a plus if the code beside it differs."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "sr_engine", "kernels", "bench")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"


def _save(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
