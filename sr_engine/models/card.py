"""What a model file tells of its training, in words.

`ModelSpec.training` holds what the trainer noted (`sr_engine.train.report`) and, of a published model, also:

    data         {"pictures", "crops", "licences": {licence: pictures}, "attribution": a sentence}
    recipe       {"dataset": the section datasets.train, "training": what else the section training says}
    commit, machine, hours, note
    blend        {"model", "share"}: what share of the weights is that of another model
    pruned       {"ratio", "criterion", "parameters_before", "parameters_after"}: what `sr_engine.compress` removed
    scores       {test set: {"psnr_y", "ssim_y", "pictures", "rivals": {model: its PSNR-Y}, further measure: value}}
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sr_engine.models.spec import ModelSpec

Row = tuple[str, str]
_SCORE = ("psnr_y", "ssim_y", "pictures", "rivals")


def training_rows(spec: ModelSpec) -> Iterator[Row]:
    """Label and text of all that is known of a training but its scores; what a file doesn't say is left out."""
    facts = spec.training
    recipe = _mapping(facts.get("recipe"))
    lines = {
        "name": facts.get("name"),
        "iterations": _number(facts.get("iterations")),
        "curriculum": facts.get("curriculum"),
        "started from": facts.get("started_from"),
        "pruned": _pruned(_mapping(facts.get("pruned"))),
        "blend": _blend(_mapping(facts.get("blend"))),
        "data": _data(facts.get("data")),
        "attribution": _mapping(facts.get("data")).get("attribution"),
        "data set": _settings(recipe.get("dataset")),
        "losses": _losses(_mapping(facts.get("losses"))),
        "teacher": _teacher(_mapping(_mapping(facts.get("distill")).get("teacher"))),
        "batch": _batch(facts),
        "optimiser": _settings(facts.get("optim_g")),
        "scheduler": _settings(facts.get("scheduler")),
        "average": facts.get("ema_decay"),
        "seed": facts.get("seed"),
        "more settings": _settings(recipe.get("training")),
        "commit": facts.get("commit"),
        "machine": facts.get("machine"),
        "hours": facts.get("hours"),
        "versions": _settings(facts.get("versions")),
        "validation": _validation(_mapping(facts.get("validation"))),
        "note": facts.get("note"),
    }
    yield from ((label, str(value)) for label, value in lines.items() if value not in (None, ""))


def score_rows(spec: ModelSpec) -> Iterator[Row]:
    """Label and text of the scores on each test set."""
    for name, score in scores(spec).items():
        rest = "; ".join(filter(None, (f"{score['pictures']} pictures", rivals(score), measures(score))))
        yield name, f"{score['psnr_y']:.2f} dB PSNR-Y, {score['ssim_y']:.4f} SSIM-Y ({rest})"


def scores(spec: ModelSpec) -> Mapping[str, Mapping[str, Any]]:
    """Scores by test set, as the module says; empty where the file has none."""
    return _mapping(spec.training.get("scores"))


def rivals(score: Mapping[str, Any]) -> str:
    """PSNR-Y of others on the same pictures: `bicubic 28.43, mks2021 28.59`."""
    return ", ".join(f"{name} {psnr:.2f}" for name, psnr in _mapping(score.get("rivals")).items())


def measures(score: Mapping[str, Any]) -> str:
    """What was measured beyond PSNR-Y and SSIM-Y: `lpips 0.2345`."""
    return ", ".join(f"{name} {value}" for name, value in score.items() if name not in _SCORE)


def _mapping(value: object) -> Mapping[str, Any]:
    """Model files of others may hold anything under a key."""
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def _data(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return None if value is None else str(value)
    licences = ", ".join(f"{count} {licence}" for licence, count in _mapping(value.get("licences")).items())
    return f"{value.get('pictures')} photographs, {value.get('crops')} crops of them ({licences})"


def _settings(value: object) -> str:
    """`AdamW, lr 0.001, betas [0.9, 0.99]`."""
    given = {key: item for key, item in _mapping(value).items() if item is not None}
    kind = [str(given.pop("type"))] if "type" in given else []
    return ", ".join((*kind, *(f"{key} {item}" for key, item in given.items())))


def _losses(losses: Mapping[str, Any]) -> str:
    """`pixel: charbonnier, loss_weight 1.0, eps 0.001; fft: ...`."""
    return "; ".join(f"{name}: {_settings(loss)}" for name, loss in losses.items())


def _teacher(facts: Mapping[str, Any]) -> str | None:
    if not facts:
        return None
    return ", ".join((str(facts.get("name")), *(f"{k} {facts[k]}" for k in ("licence", "sha256") if k in facts)))


def _blend(facts: Mapping[str, Any]) -> str | None:
    return f"{facts.get('share')} of the weights of {facts.get('model')}, the rest of this training" if facts else None


def _pruned(facts: Mapping[str, Any]) -> str | None:
    before, after = (_number(facts.get(f"parameters_{when}")) for when in ("before", "after"))
    if before is None or after is None:
        return None
    earlier = ", of a network that was pruned before" if facts.get("earlier") else ""
    return f"{before} weights to {after} by {facts.get('criterion')}{earlier}"


def _batch(facts: Mapping[str, Any]) -> str | None:
    size, side = facts.get("batch_size"), facts.get("patch_size")
    return None if size is None or side is None else f"{size} patches of {side}x{side} low-resolution pixels"


def _validation(mean: Mapping[str, Any]) -> str | None:
    if mean.get("psnr_y") is None:
        return None
    return f"{mean['psnr_y']:.2f} dB PSNR-Y, {mean.get('ssim_y', float('nan')):.4f} SSIM-Y"
