"""`train --dry-run`: what a run would do, from one real step that is thrown away."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from torch import Tensor

from sr_engine.atomic import atomic_write
from sr_engine.config.load import dump_config
from sr_engine.config.schema import Config
from sr_engine.data import EvalPair, TrainStream, build_dataset, preview_pairs, train_loader
from sr_engine.losses.plan import render_plan
from sr_engine.train.distributed import World
from sr_engine.train.learner import Learner
from sr_engine.train.session import Session
from sr_engine.train.stages import Stage, stages
from sr_engine.train.steps import Pair

_PAIRS = 4
_COLOURS = ("#c0392b", "#2060b0", "#1e8449", "#b9770e", "#7d3c98", "#117a8b", "#566573")


def write_plan(config: Config, folder: Path, world: World, console: Console) -> None:
    """Print a run's plan and write it to `folder`: plan.txt, weights.png, pairs.png and the resolved config.yml.

    Raises:
        EngineError: whatever the first step of the run would raise.
    """
    plan = stages(config)
    lines, stream = _stage_lines(plan[0], world)
    for stage in plan[1:]:
        lines += ["", *_stage_lines(stage, world)[0]]
    text = "\n".join(lines) + "\n"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if not world.is_main:
        return
    _write(folder / "plan.txt", lambda path: path.write_text(text, encoding="utf-8"))
    _write(folder / "config.yml", lambda path: path.write_text(dump_config(config), encoding="utf-8"))
    _write(folder / "weights.png", lambda path: plot_weights(config).save(path))
    _write(folder / "pairs.png", lambda path: Image.fromarray(_pairs_sheet(preview_pairs(stream, _PAIRS))).save(path))
    console.print(f"written to {folder}", markup=False, highlight=False, soft_wrap=True)


def _stage_lines(stage: Stage, world: World) -> tuple[list[str], TrainStream]:
    """What a stage would do, and its training data."""
    config, training = stage.config, stage.config.training
    # Measured whole: of a network that is divided, what is kept for the backward pass cannot be told from weights.
    whole = config.model_copy(update={"training": training.model_copy(update={"parallel": "ddp"})})
    session = Session(whole, world)
    dataset = build_dataset(config.datasets.train, scale=config.scale, patch_size=training.patch_size, role="train")
    stream = TrainStream(dataset, scale=config.scale, patch_size=training.patch_size, seed=training.seed)
    with train_loader(stream, batch_size=training.batch_size // world.size, workers=0, device=world.device) as loader:
        batch = next(loader).to(world.device, torch.channels_last)
    kept = config.distill is not None and config.distill.cache is not None
    # What a teacher would make beforehand is computed by a run; here its size is what counts.
    activations = measure_activations(session, Pair(batch.lr, batch.hr, batch.hr if kept else None))
    learners = [part for part in (session.steps.generator, session.steps.discriminator) if part is not None]
    where = f" {stage.title}, from iteration {stage.first}" if stage.title else ""
    lines = [
        f"{config.name}{where}: x{config.scale}, {stage.end - stage.first} iterations of {training.batch_size} patches "
        f"of {training.patch_size}x{training.patch_size} pixels, {len(dataset)} pictures, {world.device}, "
        f"{session.dtype}, {training.optim_g.type} from {session.steps.generator.base_lr:g}",
        "",
    ]
    if stage.number == 1:
        lines += [render_plan(session.bank.plan()), "", *_discriminator_lines(session)]
    lines += [
        f"{part.role}: {sum(p.numel() for p in part.net.parameters()):,} weights in training" for part in learners
    ]
    lines += _memory_lines(session, learners, activations)
    if training.parallel == "fsdp" and world.size > 1:
        lines.append(f"fsdp: weights, gradients, optimiser and average of the generator are divided by {world.size}")
    if session.transferred is not None:
        lines += ["", f"starting from {config.load_from}: {session.transferred.summary()}"]
    return lines + session.notes, stream


def measure_activations(session: Session, pair: Pair) -> int:
    """Bytes that one step with every loss active keeps for its backward passes, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in session.net_g.parameters()}
    if session.net_d is not None:
        weights |= {p.untyped_storage().data_ptr() for p in session.net_d.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    steps = session.steps
    steps.d_trained = steps.init_iters  # as in the middle of the run, when the generator hears the discriminator
    last = session.config.training.total_iter - 1
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        steps.run(pair, last, lr_g=0.0, lr_d=0.0, next_pair=lambda: pair)
    return sum(kept.values())


def plot_weights(config: Config, size: tuple[int, int] = (900, 420)) -> Image.Image:
    """The weight of each loss over the iterations, each relative to its own largest value, which the legend names."""
    width, height = size
    left, top, right, bottom = 50, 20, width - 290, height - 40
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, top, right, bottom), outline="#888888")
    losses = {**config.losses, **(config.distill.losses() if config.distill is not None else {})}
    total = config.training.total_iter
    for label, x in (("0", left), (f"{total}", right)):
        draw.text((x, bottom + 8), label, fill="#444444", anchor="ma")
    draw.text(((left + right) // 2, bottom + 8), "iteration", fill="#444444", anchor="ma")
    for stage in stages(config)[1:]:
        x = left + stage.first / total * (right - left)
        draw.line((x, top, x, bottom), fill="#cccccc")
        draw.text((x + 4, bottom - 14), f"x{stage.config.scale}", fill="#888888")
    for share in (0.0, 0.5, 1.0):
        draw.text((left - 6, bottom - share * (bottom - top)), f"{share:g}", fill="#444444", anchor="rm")
    for index, (name, loss) in enumerate(losses.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        weights = [loss.loss_weight.at(round(k / 400 * (total - 1)), total) for k in range(401)]
        largest = max(weights)
        points = [
            (left + k / 400 * (right - left), bottom - w / (largest or 1.0) * (bottom - top - 8) - 2 * index)
            for k, w in enumerate(weights)
        ]
        draw.line(points, fill=colour, width=2)
        y = top + 22 * index
        draw.line((right + 16, y + 6, right + 40, y + 6), fill=colour, width=3)
        draw.text((right + 48, y), f"{name}  (1 = {largest:.4g})", fill="#222222")
    return image


def _discriminator_lines(session: Session) -> list[str]:
    steps = session.steps
    if steps.discriminator is None or steps.heard is None:
        return []
    first = max(0, steps.heard - steps.init_iters)
    heard = max(steps.heard, steps.init_iters)
    wait = f"; the generator waits until iteration {heard}" if heard > steps.heard else ""
    return [f"discriminator: trains from iteration {first}, heard by the generator from iteration {heard}{wait}"]


def _memory_lines(session: Session, learners: Sequence[Learner], activations: int) -> list[str]:
    # Weight, gradient, and what the optimiser really made in the step; the average of the generator once more.
    states = sum(_optimizer_bytes(part) for part in learners)
    weights = sum(p.numel() * p.element_size() for part in learners for p in part.net.parameters())
    average = sum(p.numel() * p.element_size() for p in session.steps.ema.net.parameters())
    fixed = 2 * weights + states + average
    accumulate = session.config.training.accumulate
    lines = [
        f"memory: about {_mib(fixed)} for weights, gradients, optimiser and average, plus about {_mib(activations)} "
        f"kept for the backward passes of {session.config.training.batch_size // accumulate} patches at a time"
    ]
    if session.world.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(session.world.device)
        lines.append(f"memory: {_mib(peak)} at the peak of one step, measured")
    return lines


def _optimizer_bytes(learner: Learner) -> int:
    values = (value for state in learner.optimizer.state.values() for value in state.values())
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"


def _pairs_sheet(pairs: Sequence[EvalPair]) -> NDArray[np.uint8]:
    """A row for each pair: what the network sees, every pixel as a block, beside the original."""
    scale = pairs[0].hr.shape[0] // pairs[0].lr.shape[0]
    rows = [np.hstack([np.kron(pair.lr, np.ones((scale, scale, 1), np.uint8)), pair.hr]) for pair in pairs]
    return np.vstack(rows)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    with atomic_write(path) as temporary:
        write(temporary)
