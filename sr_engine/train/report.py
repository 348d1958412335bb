"""What a finished run leaves behind: the model file, a table against classical upsamplers, a sheet of pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from rich.table import Table
from torch import nn

from sr_engine.config.load import plain_config
from sr_engine.data import EvalPair
from sr_engine.infer.evaluate import EvalReport, evaluate
from sr_engine.infer.sheet import comparison_sheet
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.files import save_model
from sr_engine.models.spec import HasSpec
from sr_engine.train.session import Session
from sr_engine.train.validate import inference_copy
from sr_engine.version import __version__

BASELINES = {"bicubic": "bicubic", "mks2021": "MKS2021"}
_SHEET_ROWS = 6


def write_model(path: Path, net: nn.Module, session: Session, scores: EvalReport | None) -> None:
    """Write `net`, which has the averaged weights, with their provenance; the form that trains, which loading folds.

    Raises:
        ModelFileError: the file cannot be written.
    """
    pruned = {} if session.pruning is None else session.pruning.facts(net)
    save_model(path, net, training={**_provenance(session, scores), **_teacher(session), **pruned})


def baseline_scores(pairs: Sequence[EvalPair], scale: int) -> dict[str, EvalReport]:
    """Scores of the classical upsamplers by name."""
    return {name: evaluate(Upscaler(name, scale=scale), pairs, scale=scale, model=name) for name in BASELINES}


def score_table(baselines: dict[str, EvalReport], ours: EvalReport) -> Table:
    """PSNR-Y of every picture: the classical upsamplers, ours, and by how much ours is better."""
    table = Table(title=f"PSNR-Y in dB at x{ours.scale}, on pictures never trained on", title_justify="left")
    table.add_column("picture", no_wrap=True)
    for title in (*BASELINES.values(), "ours", *(f"vs {title}" for title in BASELINES.values())):
        table.add_column(title, justify="right")
    others = list(baselines.values())
    for k, score in enumerate(ours.images):
        table.add_row(score.name, *_cells([other.images[k].psnr_y for other in others], score.psnr_y))
    table.add_section()
    table.add_row("mean", *_cells([other.mean().psnr_y for other in others], ours.mean().psnr_y))
    return table


def _cells(others: list[float], own: float) -> list[str]:
    return [*(f"{value:.2f}" for value in (*others, own)), *(f"{own - value:+.2f}" for value in others)]


def write_sheet(path: Path, net: nn.Module, pairs: Sequence[EvalPair], scale: int) -> None:
    """A labelled PNG of the first pictures: classical upsamplers, ours, original, with zoomed crops."""
    upscalers = [*(Upscaler(name, scale=scale) for name in BASELINES), Upscaler(inference_copy(net), precision="fp32")]
    shown = [pairs[k] for k in range(min(_SHEET_ROWS, len(pairs)))]
    rows = [(pair.name, [*(up(pair.lr) for up in upscalers), pair.hr]) for pair in shown]
    comparison_sheet([*BASELINES.values(), "ours", "original"], rows, path, shave=scale)


def _teacher(session: Session) -> dict[str, Any]:
    """Whom the weights learned from, as `sr_engine.train.distill` noted it when the run began."""
    if session.config.distill is None:
        return {}
    plain: Any = plain_config(session.config)["distill"]
    settings = {key: value for key, value in plain.items() if key not in ("teacher", "cache_folder")}
    facts = cast(HasSpec, session.steps.ema.net).spec.training.get("teacher")
    return {"distill": {"teacher": facts, **settings}}


def _provenance(session: Session, scores: EvalReport | None) -> dict[str, Any]:
    """What the weights come from. Paths are left out: a model file travels further than the names of folders should."""
    config, run = session.config, session.run
    plain: Any = plain_config(config)
    training = plain["training"]
    stages: Any = plain_config(run)["training"]["curriculum"]
    return {
        "name": config.name,
        "iterations": session.iteration,
        "data": config.datasets.train.type,
        "losses": plain["losses"],
        **{key: training[key] for key in ("batch_size", "patch_size", "optim_g", "scheduler", "ema_decay", "seed")},
        "curriculum": [{k: v for k, v in stage.items() if v is not None} for stage in stages] if stages else None,
        "started_from": Path(run.load_from).name if run.load_from else None,
        "validation": scores.mean()._asdict() if scores is not None else None,
        "versions": {"sr_engine": __version__, "torch": torch.__version__},
    }
