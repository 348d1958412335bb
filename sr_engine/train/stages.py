"""The stages of a run: those of `training.curriculum`, or the one that a run without it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from sr_engine.config import registry
from sr_engine.config.problems import dotted
from sr_engine.config.rules import broken_rules
from sr_engine.config.schema import Config, Training
from sr_engine.config.schema import Stage as StageConfig
from sr_engine.data import count_pictures
from sr_engine.errors import ConfigError
from sr_engine.train.optim import build_optimizer


@dataclass(frozen=True)
class Stage:
    """Iterations `first` <= it < `end` of a run, with a configuration of their own.

    number: counted from 1, of `count` stages.
    config: as of a run without a curriculum; only `total_iter` is that of the whole run, over which losses are
            scheduled.
    """

    number: int
    count: int
    first: int
    end: int
    config: Config

    @property
    def title(self) -> str:
        """What a person is told: which of several stages this is; empty where there is one."""
        return f"stage {self.number} of {self.count}" if self.count > 1 else ""


def stages(config: Config) -> list[Stage]:
    """The stages of a run, whose lengths are known (see `with_lengths`)."""
    training = config.training
    if training.curriculum is None:
        return [Stage(1, 1, 0, training.total_iter, config)]
    found: list[Stage] = []
    first = 0
    for number, stage in enumerate(training.curriculum, start=1):
        assert stage.iters is not None, "with_lengths has counted the epochs"
        own = {
            "scale": stage.scale,
            "load_from": config.load_from if number == 1 else None,
            "distill": config.distill if stage.scale == config.scale else None,  # a teacher has one scale
            "training": _training(training, stage),
        }
        end = first + stage.iters
        found.append(Stage(number, len(training.curriculum), first, end, config.model_copy(update=own)))
        first = end
    return found


def stage_at(found: Sequence[Stage], iteration: int) -> Stage:
    """The stage that iteration `iteration`, counted from 0, belongs to; the last one from the end of the run on."""
    return next((stage for stage in found if iteration < stage.end), found[-1])


def with_lengths(config: Config) -> Config:
    """The configuration with the stages in iterations: pictures are counted where they are given in epochs.

    Raises:
        ConfigError: a key contradicts the length that comes out.
        DataError: there is nothing to train on.
    """
    training = config.training
    if training.curriculum is None or all(stage.iters is not None for stage in training.curriculum):
        return config
    counted = [_in_iterations(config, stage) for stage in training.curriculum]
    total = training.total_iter or sum(stage.iters or 0 for stage in counted)
    config = config.model_copy(
        update={"training": training.model_copy(update={"curriculum": counted, "total_iter": total})}
    )
    if problems := broken_rules(config):
        raise ConfigError("\n".join(f"{dotted(problem.path)}: {problem.text}" for problem in problems))
    return config


def check_stage(stage: Stage) -> None:
    """Find out now what would stop a later stage when its turn comes.

    Raises:
        EngineError: its network, an optimiser or its pictures.
    """
    config, training = stage.config, stage.config.training
    net_g = registry.build("network_g", config.network_g.type, scale=config.scale, **config.network_g.arguments)
    build_optimizer(training.optim_g.type, training.optim_g.arguments, net_g.parameters())
    if config.network_d is not None:
        net_d = registry.build("network_d", config.network_d.type, **config.network_d.arguments)
        build_optimizer(training.optim_d.type, training.optim_d.arguments, net_d.parameters())
    count_pictures(config.datasets.train, scale=config.scale, patch_size=training.patch_size, role="train")
    if config.datasets.val is not None:
        count_pictures(config.datasets.val, scale=config.scale, role="val")


def _training(training: Training, stage: StageConfig) -> Training:
    keys = ("batch_size", "patch_size", "optim_g", "optim_d", "scheduler")
    own = {key: value for key in keys if (value := getattr(stage, key)) is not None}
    return training.model_copy(update={**own, "curriculum": None})


def _in_iterations(config: Config, stage: StageConfig) -> StageConfig:
    if stage.epochs is None:
        return stage
    training = _training(config.training, stage)
    data = config.datasets.train
    pictures = count_pictures(data, scale=stage.scale, patch_size=training.patch_size, role="train")
    return stage.model_copy(update={"iters": -(-stage.epochs * pictures // training.batch_size), "epochs": None})
