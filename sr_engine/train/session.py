"""The networks, losses and counters of a run: built from a configuration, saved to and continued from a checkpoint."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sr_engine.config import registry
from sr_engine.config.load import dump_config
from sr_engine.config.schema import Config
from sr_engine.data import Batch, TrainStream
from sr_engine.device import pick_precision
from sr_engine.errors import CheckpointError
from sr_engine.losses.bank import LossBank
from sr_engine.models.bounded import build_bounded
from sr_engine.models.transfer import TransferReport, transfer_state, transfer_weights
from sr_engine.train.checkpoint_form import check_moments
from sr_engine.train.distill import Distillation
from sr_engine.train.distributed import World
from sr_engine.train.ema import Ema
from sr_engine.train.learner import Learner
from sr_engine.train.meter import Meter
from sr_engine.train.network import prepare_network
from sr_engine.train.pair import Pair
from sr_engine.train.plain import PlainStep, obstacle
from sr_engine.train.prune import Batches, Pruning, pruned_state
from sr_engine.train.rng import rng_state, seed_everything, set_rng_state
from sr_engine.train.schedule import Schedule
from sr_engine.train.sharding import DividedEma
from sr_engine.train.stages import stage_at, stages
from sr_engine.train.steps import Steps

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Session:
    """Everything of a stage of a run that a checkpoint holds.

    A session ends with its stage; the next one is made from its `state_dict`, as it would be from that in a file.

    Args:
        config: of the run.
        world: this process among those of the run.
        state: the checkpoint to continue from, as `state_dict` made it; where a stage is complete in it, the session is
            that of the next one: the averaged weights and the discriminator are taken over, the rest begins anew.

    Attributes:
        run: configuration of the whole run.
        stage: what is trained now.
        config: that of the stage.
        iteration: iterations done.
        batches: batches taken from the data.
        best: iteration and PSNR-Y of the best validation; None before the first.
        bad_steps: steps in a row that were skipped.
        psnr: PSNR-Y of the last validation; None before the first.
        layout: arguments of the generator where the run has pruned it, in place of the configuration's.
        pruning: where the run stands with `prune`; None without.
        transferred: what `load_from` gave a new run, or a stage the next one.
        notes: lines to say before the training: what `training.accelerate` swapped, what other programs will read
            differently in the file of the run, and who the teacher is.

    Raises:
        CheckpointError: the checkpoint's weights do not fit the networks.
        ConfigError: a network, loss or optimiser refuses its arguments.
    """

    def __init__(self, config: Config, world: World, state: Mapping[str, Any] | None = None) -> None:
        self.run, self.world = config, world
        self.stage = stage_at(stages(config), 0 if state is None else int(state["iteration"]))
        self.config = config = self.stage.config
        training = config.training
        before = None  # the stage before, as it ended
        if state is not None and state.get("stage", 1) != self.stage.number:
            before, state = state, None
        self.dtype = _autocast_dtype(config, world, state or before)
        self.iteration = self.batches = self.bad_steps = 0
        self.best: tuple[int, float] | None = None
        self.psnr: float | None = None
        self.transferred: TransferReport | None = None
        self.meter = Meter()

        seed_everything(training.seed, rank=0)  # all ranks build the same weights
        self.layout: dict[str, Any] | None = (state or before or {}).get("layout")
        net_g = _generator(config, self.layout, state or before)
        self.bank = LossBank(config.losses, total_iter=training.total_iter, balance=training.balance)
        self.bank.to(world.device)
        self.net_d = None
        if config.network_d is not None:
            self.net_d = registry.build("network_d", config.network_d.type, **config.network_d.arguments)
            with torch.no_grad():
                self.bank.check_features(list(self.net_d(torch.zeros(1, 3, 32, 32)).features))
        self.net_g: nn.Module = net_g
        if before is not None:
            scale = stages(self.run)[self.stage.number - 2].config.scale
            self.transferred = transfer_state(self.net_g, before["ema"]["net"], scale)
        elif state is None and config.load_from is not None:
            self.transferred = transfer_weights(
                self.net_g, config.load_from, key=config.param_key_g, strict=config.strict_load_g
            )
        self.notes = prepare_network(self.net_g, accelerating=training.accelerate, device=world.device)
        self.pruning = None
        if config.prune is not None:
            self.pruning = Pruning(config.prune, self.net_g, world, None if state is None else state.get("prune"))
            self.notes.append(self.pruning.summary())
        self.distillation = None
        if config.distill is not None:
            self.distillation = Distillation(config, self.net_g, self.bank, self.dtype, world)
            self.notes.append(self.distillation.summary())
        seed_everything(training.seed, world.rank)
        self.schedule: Schedule = registry.build("scheduler", training.scheduler.type, **training.scheduler.arguments)
        self.steps = self._build_steps()
        if self.distillation is not None:
            self.distillation.watch()
        if before is not None:
            self._carry_on(before)
        if state is not None:
            self._load(state)

    def prepared(self, stream: TrainStream, output: Path) -> TrainStream:
        """The stream, when what its batches need beside themselves has been made.

        Raises:
            EngineError: it cannot be made.
        """
        if self.distillation is not None:
            self.distillation.prepare(stream, output)
        return stream

    def pair(self, batch: Batch) -> Pair:
        """What an iteration takes, from a batch."""
        moved = batch.to(self.world.device, torch.channels_last)
        return Pair(moved.lr, moved.hr, None if self.distillation is None else self.distillation.targets(batch))

    def note_validation(self, psnr: float) -> bool:
        """Remember the score of the current weights; True if it is the best so far."""
        self.psnr = psnr
        if self.best is not None and psnr <= self.best[1]:
            return False
        self.best = (self.iteration, psnr)
        return True

    @property
    def kept(self) -> int | None:
        """Iteration of the checkpoint that is kept for its validation."""
        return self.best[0] if self.best is not None and self.config.training.keep_best else None

    def learning_rates(self) -> dict[str, float]:
        """Rates of the coming iteration, `lr_g` and `lr_d`; the latter is 0 without a discriminator."""
        learners = {"lr_g": self.steps.generator, "lr_d": self.steps.discriminator}
        it, length = self.iteration - self.stage.first, self.stage.end - self.stage.first
        return {key: self.schedule(it, length, who.base_lr) if who else 0.0 for key, who in learners.items()}

    def state_dict(self, everywhere: bool = False) -> dict[str, Any]:
        """Plain values and tensors; call it on all ranks, since each adds its random generators.

        Args:
            everywhere: whether all ranks need weights that are divided among them, or the first alone.
        """
        keep = everywhere or self.world.is_main
        discriminator = self.steps.discriminator
        self.world.average_(*self.meter.join())  # so that a resumed run reports the same means
        return {
            "iteration": self.iteration,
            "stage": self.stage.number,
            "batches": self.batches,
            "samples": self.batches * self.config.training.batch_size,
            "d_trained": self.steps.d_trained,
            "bad_steps": self.bad_steps,
            "best": self.best,
            "psnr": self.psnr,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.world.device.type,
            "config": dump_config(self.run),
            "generator": self.steps.generator.state_dict(keep),
            "discriminator": discriminator.state_dict() if discriminator is not None else None,
            "ema": self.steps.ema.state_dict(keep),
            "bank": self.bank.get_extra_state(),
            "meter": self.meter.state_dict(),
            "distill": self.distillation.state_dict() if self.distillation is not None else None,
            "layout": self.layout,
            "prune": self.pruning.state_dict() if self.pruning is not None else None,
            "rng": self.world.gather(rng_state()),
        }

    def pruned(self, batches: Batches) -> "Session | None":
        """Do what `prune` asks for before this iteration; the session of the smaller network where a turn was due.

        Args:
            batches: the training's next ones, which are not trained on.

        Raises:
            EngineError: the network cannot be cut so.
        """
        assert self.pruning is not None, "asks for it"
        cut = self.pruning.work(self.net_g, self.iteration, batches)
        if cut is None:
            return None
        return Session(self.run, self.world, pruned_state(self.state_dict(), self.net_g, cut))

    def _build_steps(self) -> Steps:
        training = self.config.training
        projections = None if self.distillation is None else self.distillation.projections
        sharded = training.parallel == "fsdp" and self.world.size > 1
        if training.parallel == "fsdp" and not sharded:
            self.notes.append("training.parallel: fsdp has no effect: there is one process")
        blank = copy.deepcopy(self.net_g).cpu() if sharded else self.net_g
        generator = Learner(
            "generator", self.net_g, training.optim_g, training, self.dtype, self.world, projections, sharded=sharded
        )
        decay = training.ema_decay
        ema = DividedEma(self.net_g, blank, decay) if sharded else Ema(self.net_g, decay)
        discriminator = None
        if self.net_d is not None:
            discriminator = Learner("discriminator", self.net_d, training.optim_d, training, self.dtype, self.world)
        return Steps(
            generator,
            discriminator,
            ema,
            self.bank,
            accumulate=training.accumulate,
            init_iters=training.net_d_init_iters,
            extra=training.net_d_iters - 1,
            dtype=self.dtype,
            plain=self._plain_step(generator, ema),
        )

    def _plain_step(self, generator: Learner, ema: Ema[nn.Module]) -> PlainStep | None:
        """Iterations that never wait for a GPU, where these can be; on a CPU there is nothing to wait for."""
        training, record = self.config.training, self.config.training.cuda_graph
        waits = obstacle(generator, self.bank, accumulate=training.accumulate, adversarial=self.net_d is not None)
        if waits is not None:
            if record:
                self.notes.append(f"training.cuda_graph has no effect: {waits}")
            return None
        if record:
            generator.make_recordable()
        return PlainStep(generator, ema, self.bank, self.dtype, record=generator.recordable)

    def _carry_on(self, before: Mapping[str, Any]) -> None:
        """Take over, beside the weights, what does not depend on the scale."""
        self.iteration, self.batches = int(before["iteration"]), int(before["batches"])
        self.steps.d_trained = int(before["d_trained"])
        if self.steps.discriminator is not None and before["discriminator"] is not None:
            self.steps.discriminator.load_state_dict(before["discriminator"])

    def _load(self, state: Mapping[str, Any]) -> None:
        try:
            self.steps.generator.load_state_dict(state["generator"])
            self.steps.ema.load_state_dict(state["ema"])
            if self.steps.discriminator is not None and state["discriminator"] is not None:
                self.steps.discriminator.load_state_dict(state["discriminator"])
            for learner in filter(None, (self.steps.generator, self.steps.discriminator)):
                check_moments(learner)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"the checkpoint's weights do not fit the networks of the configuration: {str(error).splitlines()[0]} "
                "Start a new run with another --output, and load_from to keep what fits."
            ) from error
        self.bank.set_extra_state(state["bank"])
        self.iteration = int(state["iteration"])
        size = self.config.training.batch_size  # which may be another one now: no sample is to come again
        self.batches = -(-int(state.get("samples", state["batches"] * size)) // size)
        self.steps.d_trained, self.bad_steps = int(state["d_trained"]), int(state["bad_steps"])
        self.best, self.psnr = state["best"], state["psnr"]
        self.meter.load_state_dict(state["meter"])
        if self.distillation is not None and state.get("distill") is not None:
            self.notes += self.distillation.load_state_dict(state["distill"])
        if self.world.rank < len(state["rng"]):  # a rank that was not there before keeps its seed
            set_rng_state(state["rng"][self.world.rank])


def _generator(config: Config, layout: dict[str, Any] | None, state: Mapping[str, Any] | None) -> nn.Module:
    """The network of the configuration, or the one that a run has pruned to a layout."""
    if layout is None or state is None:
        return registry.build("network_g", config.network_g.type, scale=config.scale, **config.network_g.arguments)
    build = lambda: registry.build("network_g", config.network_g.type, scale=config.scale, **layout)  # noqa: E731
    try:
        return build_bounded(build, layout, state["ema"]["net"])
    except Exception as error:  # what layers raise of sizes and types that they cannot have
        raise CheckpointError(
            f"the checkpoint's 'layout' makes no network ({error!r}): delete it or use an older one."
        ) from error


def _autocast_dtype(config: Config, world: World, state: Mapping[str, Any] | None) -> torch.dtype:
    precision = config.training.precision
    if precision == "auto" and state is not None and state["device"] == world.device.type:
        return _DTYPES[state["dtype"]]  # `auto` measures, and must not decide otherwise in the middle of a run
    return world.gather(pick_precision(precision, world.device))[0]
