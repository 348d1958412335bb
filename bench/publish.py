"""From a finished run to a model that comes with the package: `python -m bench.publish RUN --name tiny-x4 ...`.

    python -m bench.publish runs/tiny_x4 --name tiny-x4 --photos photos.json --test Set5=DIR --test BSD100=DIR \\
        --commit 0123abc --machine "two cores of an AMD EPYC"
    python -m bench.publish --cards             docs/models.md again, from the files in sr_engine/weights/
    python -m bench.publish --cards --check     writes nothing; exit code 1 where the page says something else

Takes the averaged weights of the run (`--best`: those of its best validation), folds them, scores them by the protocol
of `sr-engine eval` and writes sr_engine/weights/NAME.safetensors with all that is known of them, docs/models.md and
docs/training-pictures.md. `--spoil noise=5,jpeg=50` scores every test set spoiled in this way too, and
`--scores TITLE=FILE` adds what `sr-engine eval --json FILE` has written, such as further measures.
`--blend tiny-x4=0.3` mixes 30 % of the weights of another model in.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from torch import nn

from bench import cards, photographs
from bench.machine import commit, device_name
from bench.publish_scores import Defects, measured, taken_over
from sr_engine.atomic import atomic_write
from sr_engine.cli.registrations import load_all
from sr_engine.config import yaml12
from sr_engine.errors import EngineError
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models import files
from sr_engine.models.files import RUN_FILE, load_model, save_model
from sr_engine.models.spec import HasSpec

ROOT = Path(__file__).parents[1]
LARGEST = 4_000_000  # bytes of a model file
BEST_FILE = "best.safetensors"
_OF_DISCRIMINATOR = {"optim_d", "net_d_iters", "net_d_init_iters", "balance"}
# Same weights whatever these say, up to rounding.
_WITHOUT_EFFECT = {
    *("on_bad_file", "workers", "cache_mb", "in_memory"),
    *("validate_every", "checkpoint_every", "keep_last", "keep_best", "cuda_graph", "compile", "accelerate"),
}


class PublishError(EngineError):
    """A run or an argument that cannot be published; one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    load_all()
    try:
        if not options.cards:
            if options.run is None or options.name is None or options.photos is None:
                parser.error("expected RUN, --name and --photos, or --cards")
            publish(options)
        return update_cards(options.docs, check=options.check)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1


def publish(options: argparse.Namespace) -> Path:
    """Write the model file and the page of the photographs; returns the file.

    Raises:
        EngineError: one sentence; then no model file was written or replaced.
    """
    config = _finished(options.run)
    net = load_model(options.run / (BEST_FILE if options.best else RUN_FILE))
    spec = cast(HasSpec, net).spec
    if not re.search(rf"-x{spec.scale}(-|$)", options.name):
        raise PublishError(f"--name {options.name}: expected -x{spec.scale} in it, by which the engine finds the scale")
    pictures = photographs.read(options.photos)
    given = spec.training
    training = {
        **given,
        **(_blend(net, *options.blend) if options.blend else {}),
        "data": photographs.facts(pictures),
        "recipe": _recipe(config, given),
        "commit": options.commit or _own_commit(),
        "machine": options.machine or device_name("cpu"),
        "hours": options.hours if options.hours is not None else _hours(options.run),
        "scores": {
            **_measured(Upscaler(net, precision="fp32"), options),
            **{title: taken_over(Path(path), spec.scale) for title, path in options.scores},
        },
        "note": options.note,
    }
    target = files.SHIPPED / f"{options.name}.safetensors"
    trial = target.with_suffix(".trial")
    try:
        save_model(trial, net, training=training, licence=options.licence)
        size = trial.stat().st_size
        if size > LARGEST:
            raise PublishError(f"{target}: would have {size:,} bytes, expected at most {LARGEST:,}: it must stay small")
        trial.replace(target)
    finally:
        trial.unlink(missing_ok=True)
    print(f"wrote {target}, {size:,} bytes")
    _write(options.docs / Path(photographs.PAGE).name, photographs.page(pictures))
    return target


def _blend(net: nn.Module, model: str, share: str) -> dict[str, Any]:
    """Mix the folded weights of another model of the same layout into `net`: between one that is right on average and
    one that invents detail lies a continuum (network interpolation; ESRGAN, Wang et al. 2018, sec. 3.4)."""
    try:
        part = float(share)
        if not 0 < part < 1:
            raise ValueError(share)
        own = net.state_dict()
        net.load_state_dict({name: own[name].lerp(w, part) for name, w in load_model(model).state_dict().items()})
    except (ValueError, KeyError, RuntimeError) as error:
        raise PublishError(f"--blend {model}={share}: expected a model of this layout, and a share of 0..1") from error
    return {"blend": {"model": model, "share": part}}


def update_cards(docs: Path, *, check: bool) -> int:
    """Write or check docs/models.md; the exit code."""
    path, text = docs / "models.md", cards.page(files.SHIPPED)
    if not check:
        _write(path, text)
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        raise PublishError(
            f"{path} is not what the model files say: run `python -m bench.publish --cards` and commit it"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.publish", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--name", help="of the model, such as tiny-x4")
    parser.add_argument("--best", action="store_true", help="the weights of the best validation, not the last ones")
    parser.add_argument("--blend", type=_named, metavar="MODEL=SHARE", help="mix in so much of another model's weights")
    parser.add_argument("--photos", type=Path, metavar="JSON", help="list of the training pictures")
    for flag, what in (("--test", "NAME=FOLDER"), ("--scores", "NAME=JSON")):
        parser.add_argument(flag, action="append", default=[], type=_named, metavar=what)
    parser.add_argument(
        "--spoil", action="append", default=[], type=_defects, metavar="noise=S,jpeg=Q", help="score this too"
    )
    parser.add_argument("--licence", default="Apache-2.0", help="of the weights (Apache-2.0)")
    parser.add_argument("--commit", help="of the code that trained them (that of this checkout)")
    parser.add_argument("--machine", help="that trained them (this one's processor)")
    parser.add_argument("--hours", type=float, help="that the training took (by the speeds in its log)")
    parser.add_argument("--note", help="a sentence for the card")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the pages")
    parser.add_argument("--cards", action="store_true", help="publish nothing, only make docs/models.md again")
    parser.add_argument("--check", action="store_true", help="with --cards: only say whether the page is right")
    return parser


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"expected two parts with = between them, got '{text}'")
    return name, path


def _defects(text: str) -> Defects:
    found = dict(re.findall(r"(noise|jpeg)=(\d+)(?:,|$)", text))
    if not found or ",".join(f"{name}={value}" for name, value in found.items()) != text:
        raise argparse.ArgumentTypeError(f"expected noise=S, jpeg=Q or both with a comma between, got '{text}'")
    return {name: int(value) for name, value in found.items()}


def _finished(run: Path) -> dict[str, Any]:
    """The configuration of a run that has done all its iterations."""
    if not (run / "config.yml").is_file():
        raise PublishError(f"{run}: has no config.yml; expected the folder of a run")
    config = cast(dict[str, Any], yaml12.read(run / "config.yml").value)
    if not (run / RUN_FILE).is_file():
        raise PublishError(f"{run}: has no {RUN_FILE}: the run is not finished")
    done = files.read_model_file(run / RUN_FILE).spec.training.get("iterations")
    total = config["training"]["total_iter"]
    if done != total:
        raise PublishError(f"{run}: the run is not finished: its weights have {done} of {total} iterations")
    return config


def _recipe(config: dict[str, Any], given: Iterable[str]) -> dict[str, Any]:
    """What bears on the weights and is not in the model file already; paths are of no use to others."""
    given = {*given, *(_OF_DISCRIMINATOR if config.get("network_d") is None else ())}

    def telling(section: dict[str, Any]) -> dict[str, Any]:
        unsaid = {key: value for key, value in section.items() if value is not None and key not in given}
        return {key: value for key, value in unsaid.items() if "path" not in key and key not in _WITHOUT_EFFECT}

    return {"dataset": telling(config["datasets"]["train"]), "training": telling(config["training"])}


def _own_commit() -> str:
    name, changed = commit()
    return f"{name} with changes" if changed else name


def _hours(run: Path) -> float | None:
    """Hours of training by the speeds in the log, without validation and saving; None where there is none."""
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    rows = [row for row in map(json.loads, lines) if row["event"] == "train"]
    steps = pairwise([{"iter": 0}, *rows])
    seconds = sum((row["iter"] - before["iter"]) / row["it_per_s"] for before, row in steps)
    return round(seconds / 3600, 2) if rows else None


def _measured(up: Upscaler, options: argparse.Namespace) -> dict[str, Any]:
    scores = {}
    for title, score in measured(up, options.name, options.test, options.spoil):
        others = ", ".join(f"{name} {psnr:.2f}" for name, psnr in score["rivals"].items())
        print(f"{title}: {score['psnr_y']:.3f} dB, {score['ssim_y']:.4f} ({others})")
        scores[title] = score
    return scores


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    raise SystemExit(main())
