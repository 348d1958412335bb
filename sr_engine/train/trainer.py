"""A training run from its configuration to its model file."""

import gc
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sr_engine.atomic import atomic_write
from sr_engine.config.load import dump_config
from sr_engine.config.schema import Config
from sr_engine.data import BatchIterator, TrainStream, build_dataset, train_loader
from sr_engine.errors import TrainingError
from sr_engine.layers.reparam import folded_parameters
from sr_engine.losses.finite import NonFiniteLossError
from sr_engine.models.files import RUN_FILE
from sr_engine.train.agree import check_batch, check_pictures, check_start
from sr_engine.train.checkpoint import CheckpointFolder, writing
from sr_engine.train.distributed import World, join_world
from sr_engine.train.interrupt import Interrupt
from sr_engine.train.learner import NonFiniteGradientError
from sr_engine.train.lock import sole_run
from sr_engine.train.network import with_network
from sr_engine.train.pair import Pair, StepReport
from sr_engine.train.plain import Launched
from sr_engine.train.plan import write_plan
from sr_engine.train.progress import Progress
from sr_engine.train.resume import changes, find_start, has_results
from sr_engine.train.runlog import RunLog
from sr_engine.train.scores import Scores
from sr_engine.train.session import Session
from sr_engine.train.stages import check_stage, stages, with_lengths


def run(
    config: Config,
    *,
    output: str | Path | None = None,
    resume: str = "auto",
    dry_run: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> Path:
    """Train, or continue a training, and return the folder with its results.

    The folder holds config.yml, log.jsonl, TensorBoard events, checkpoints/, visualization/, best.safetensors, and when
    the run is finished model.safetensors and comparison.png. Under torchrun every process calls this; rank 0 writes.

    Args:
        output: the folder; default `runs/<name>`.
        resume: "auto" continues from the newest checkpoint in the folder, "none" insists on a new run, anything else is
            the path of a checkpoint or a run folder.
        dry_run: write and print what would happen to `<output>/plan`, and train nothing.
        device: "auto", "cpu", "cuda" or "cuda:N".
        console: where progress is shown; default stderr.

    Raises:
        EngineError: of the kind that fits; what has been saved stays.
        KeyboardInterrupt: after Ctrl+C, SIGTERM or SIGHUP, when the step is finished and a checkpoint is saved.
    """
    folder = Path(output) if output is not None else Path("runs") / config.name
    with join_world(device, config.training.timeout) as world:
        console = console or Console(stderr=True)
        if not world.is_main:
            console = Console(quiet=True)
        if dry_run:
            write_plan(with_network(with_lengths(config)), folder / "plan", world, console)
        else:
            with sole_run(folder) if world.is_main else nullcontext():
                Run(config, folder, resume, world, console).go()
    return folder


class Run:
    """A training run, and the parts of its loop: `with run.loader(run.stream()) as loader: run.iterate(loader)`."""

    def __init__(self, config: Config, output: Path, resume: str, world: World, console: Console) -> None:
        self.output, self.world, self.console = output, world, console
        start = find_start(output, resume)
        self.given = config.network_g
        self.config = config = with_network(with_lengths(config), start[1] if start is not None else None)
        self.start, self.changed = (None, []) if start is None else (start[0], changes(*start, config))
        for stage in stages(config):
            check_batch(stage.config.training, world)
            if stage.first > (0 if start is None else int(start[1]["iteration"])):
                check_stage(stage)
        check_start(world, config, start)
        self.session = Session(config, world, start[1] if start is not None else None)
        self.checkpoints = CheckpointFolder(output / "checkpoints", config.training.keep_last)
        self.progress = Progress(console, stage=config.name, total=config.training.total_iter)
        self.log: RunLog | None = None
        self.names: list[str] = []  # pictures of the current iteration
        self.launched: list[tuple[int, list[str], StepReport | Launched]] = []  # iterations that may still run
        self.lr = 0.0  # of the generator in the current iteration

    def go(self) -> None:
        begin, total = self.session.iteration, self.config.training.total_iter
        finished = begin >= total
        (complete,) = self.world.any(finished and has_results(self.output, begin))
        if complete:
            self.progress.say(
                f"{self.output} is finished ({begin} of {total} iterations): raise training.total_iter to "
                "train it further, or choose another --output."
            )
            for line in self.changed:
                self.progress.say(f"  changed, without effect on a finished run: {line}")
            return
        stream = None if finished else self.stream()
        self._enter_stage()
        if self.given != self.config.network_g:
            self.progress.say(f"network_g is taken from {self.config.load_from}")
        if self.start is not None:
            self.progress.say(f"continuing from {self.start} (iteration {begin})")
        for line in self.changed:
            self.progress.say(f"  changed: {line}")
        if self.world.is_main:
            with writing(self.output / "config.yml"), atomic_write(self.output / "config.yml") as temporary:
                temporary.write_text(dump_config(self.config), encoding="utf-8")
            self.checkpoints.tidy(begin, keep=self.session.kept)  # what a kill has kept from being removed
            board = self.config.logging.tensorboard
            self.log = RunLog(self.output, iteration=begin, tensorboard=board, finished=finished)
        try:
            if self.changed:
                self._record("changed", keys=self.changed)
            with self.progress:
                while stream is not None:
                    self._train(stream)
                    stream = None  # its pictures make room for those of the next stage
                    if self.session.iteration < total:  # on as from the checkpoint that the stage has left
                        self.session = Session(self.config, self.world, self.session.state_dict(everywhere=True))
                        stream = self.stream()
                        self._enter_stage()
                self.scores.finish(self.output / RUN_FILE, self.session, self.log)
                self.world.barrier()
        finally:
            if self.log is not None:
                self.log.close()

    def stream(self) -> TrainStream:
        """The training data of the stage."""
        config, size = self.session.config, self.session.config.training.patch_size
        train = build_dataset(config.datasets.train, scale=config.scale, patch_size=size, role="train")
        stream = TrainStream(train, scale=config.scale, patch_size=size, seed=config.training.seed)
        check_pictures(self.world, stream)
        return self.session.prepared(stream, self.output)

    def loader(self, stream: TrainStream) -> BatchIterator:
        """This rank's batches, from where the training is."""
        on_gpu = self.world.device.type == "cuda"
        return train_loader(
            stream,
            batch_size=self.session.config.training.batch_size // self.world.size,
            rank=self.world.rank,
            world_size=self.world.size,
            start_batch=self.session.batches,
            pin_memory=on_gpu,
            as_uint8=on_gpu,
            device=self.world.device,
        )

    def _enter_stage(self) -> None:
        session, say = self.session, self.progress.say
        config, stage = session.config, session.stage
        self.scores = Scores(config, self.output, self.world, self.progress)
        self.progress.psnr = session.psnr
        self.progress.stage = f"{config.name} {stage.title}".strip()
        count = sum(p.numel() for p in session.net_g.parameters())
        precision = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[session.dtype]
        say(
            f"{self.progress.stage}: scale {config.scale}, {count:,} weights in training, {self.world.device}, "
            f"{precision}; results go to {self.output}"
        )
        if session.transferred is not None:
            say(f"starting from {config.load_from or 'the stage before'}: {session.transferred.summary()}")
        for line in session.notes:
            say(line)

    def _train(self, stream: TrainStream) -> None:
        """The rest of the stage."""
        session, training, end = self.session, self.session.config.training, self.session.stage.end
        if self.log is not None and session.stage.count > 1:
            self.log.every_row = {"stage": session.stage.number, "scale": session.config.scale}
        with self.loader(stream) as loader, Interrupt() as interrupt:
            while session.iteration < end:
                if session.pruning is not None and session.pruning.due(session.iteration):
                    session = self._prune(stream, loader)
                with session.meter.step():
                    self.iterate(loader)
                done, last = session.iteration, session.iteration == end
                self.progress.tick(done)
                if last or done % self.config.logging.print_every == 0:
                    self._report()
                best = (last or done % training.validate_every == 0) and self._validate()
                (stop,) = self.world.any(interrupt.requested)
                if last or stop or done % training.checkpoint_every == 0 or (best and training.keep_best):
                    path = self._save()
                    if stop and done < training.total_iter:
                        self.progress.say(
                            f"stopped at iteration {done} of {training.total_iter}, saved in {path}: "
                            "repeat the command to continue."
                        )
                        raise KeyboardInterrupt

    def iterate(self, loader: BatchIterator) -> None:
        """Start one iteration and end the one before it; steps whose losses or gradients are not finite are skipped."""
        session, steps = self.session, self.session.steps
        self.names = []
        if session.pruning is not None:
            session.pruning.pull(session.iteration)
        rates = session.learning_rates()
        self.lr = rates["lr_g"]
        try:
            pair = self._next(loader)
            launched = steps.launch(pair, session.iteration, **rates, next_pair=lambda: self._next(loader))
        except (NonFiniteLossError, NonFiniteGradientError) as error:
            self._skip(error, session.iteration, self.names)
        else:
            self.launched.append((session.iteration, self.names, launched))
        session.iteration += 1
        self.settle(left=0 if steps.plain is None else 1)

    def settle(self, left: int = 0) -> None:
        """End the iterations launched, all but the last `left`; until then nobody knows whether they were skipped."""
        while len(self.launched) > left:
            iteration, names, launched = self.launched.pop(0)
            try:
                report = launched.settle()
            except (NonFiniteLossError, NonFiniteGradientError) as error:
                self._skip(error, iteration, names)
            else:
                self.session.bad_steps = 0
                self.session.meter.add(report.values, report.weights)

    def _next(self, loader: BatchIterator) -> Pair:
        with self.session.meter.wait():
            batch = next(loader)
        self.session.batches += 1
        self.names += batch.names
        return self.session.pair(batch)

    def _prune(self, stream: TrainStream, loader: BatchIterator) -> Session:
        """The session to go on with, which is another one where the network has been cut."""
        self.settle()
        old, before = self.session, folded_parameters(self.session.net_g)
        with old.meter.rest():
            smaller = old.pruned(lambda count: (self._next(loader) for _ in range(count)))
        if smaller is None:
            return old
        self.session = smaller
        del old
        gc.collect()  # what the old network has on the device, recorded graphs too, hangs together in circles
        smaller.prepared(stream, self.output)
        after = folded_parameters(smaller.net_g)
        self.progress.say(f"pruned at iteration {smaller.iteration}: {before:,} parameters before, {after:,} after")
        self._record("pruned", parameters_before=before, parameters_after=after)
        return smaller

    def _skip(self, error: TrainingError, iteration: int, names: list[str]) -> None:
        """Name the loss and the pictures; stop when it goes on happening."""
        session, most = self.session, self.config.training.max_bad_steps
        session.bad_steps += 1
        pictures = sorted({name for some in self.world.gather(names) for name in some})
        where = f"iteration {iteration + 1}: {error} Its pictures: {', '.join(pictures)}."
        self.progress.say(f"skipped {where}", style="yellow")
        self._record("skipped", iteration=iteration + 1, reason=str(error), pictures=pictures)
        if session.bad_steps >= most:
            last = self.checkpoints.existing()
            saved = f"the last checkpoint is {last[0]}" if last else "no checkpoint has been written yet"
            raise TrainingError(f"stopped after {most} bad steps in a row, the last at {where} {saved}.")

    def _report(self) -> None:
        session = self.session
        with session.meter.rest():
            self.settle()
        interval = session.meter.report(session.iteration, self.lr, self.world.mean)
        self.progress.report(interval)
        if self.log is not None:
            self.log.train(interval)

    def _validate(self) -> bool:
        self.settle()
        return self.scores.validate(self.session, self.log)

    def _save(self) -> Path:
        session = self.session
        self.settle()
        state = session.state_dict()
        if self.world.is_main:
            if self.log is not None:
                self.log.sync()  # rows that this checkpoint makes final
            self.checkpoints.save(session.iteration, state, keep=self.session.kept)
        self.world.barrier()
        return self.checkpoints.path(session.iteration)

    def _record(self, event: str, iteration: int | None = None, **values: Any) -> None:
        if self.log is not None:
            self.log.event(self.session.iteration if iteration is None else iteration, event, **values)
