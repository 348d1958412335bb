"""Distillation: losses that compare the generator with a teacher, and where the teacher's outputs come from."""

import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sr_engine.config.schema import Config
from sr_engine.data import Batch, TargetMemory, TrainStream
from sr_engine.data.targets import aligned_draw
from sr_engine.errors import DataError
from sr_engine.losses.bank import LossBank
from sr_engine.losses.distill import DistillFeaturesLoss, DistillLoss
from sr_engine.losses.inputs import LossInputs
from sr_engine.models.spec import ModelSpec
from sr_engine.train.distributed import World
from sr_engine.train.features import Taps
from sr_engine.train.rng import rng_state, set_rng_state
from sr_engine.train.teacher import Teacher, ensembled
from sr_engine.train.teacher_cache import TeacherOutputs


class Distillation:
    """What `distill` of a configuration adds to a run.

    Draws the projections from torch's generator. The teacher's pass over a batch serves both losses.

    Args:
        config: with `distill`.
        student: the generator, on its device.
        bank: gets the losses.
        dtype: of autocast.
        world: this process among those of the run.

    Attributes:
        teacher: the frozen network.
        projections: trained along with the generator; None without `features`.

    Raises:
        ConfigError: the teacher cannot be loaded, is of another scale, or a layer is not there.
    """

    def __init__(self, config: Config, student: nn.Module, bank: LossBank, dtype: torch.dtype, world: World) -> None:
        assert config.distill is not None
        self.config, self.distill, self.world = config, config.distill, world
        self.teacher = Teacher(
            self.distill.teacher,
            scale=config.scale,
            dtype=dtype,
            device=world.device,
            accelerate=config.training.accelerate,
        )
        if isinstance(spec := getattr(student, "spec", None), ModelSpec):  # for the model file
            taught: Any = student
            taught.spec = replace(spec, training={**spec.training, "teacher": self.teacher.facts})
        self.projections: nn.ModuleList | None = None
        self._mine: Taps | None = None
        self._theirs: Taps | None = None
        self._memory: TargetMemory | None = None
        self._pictures: str | None = None
        self._seen: tuple[weakref.ref[Tensor], Tensor, list[Tensor]] | None = None
        losses: dict[str, nn.Module] = {
            "distill": DistillLoss(self._target, criterion=self.distill.criterion, confidence=self.distill.confidence)
        }
        if self.distill.features is not None:
            losses["distill_features"] = self._features_loss(student)
        for name, loss_config in self.distill.losses().items():
            bank.add(name, losses[name].to(world.device), loss_config)

    def summary(self) -> str:
        """One line for the log."""
        facts, distill = self.teacher.facts, self.distill
        weights = sum(parameter.numel() for parameter in self.teacher.net.parameters())
        parts = [f"{weights:,} weights", *([f"licence {facts['licence']}"] if "licence" in facts else [])]
        parts += ["8 turns"] if distill.self_ensemble else []
        parts += [f"outputs kept as {distill.cache}"] if distill.cache is not None else []
        return f"distill: the teacher is {facts['name']} ({', '.join(parts)})"

    def watch(self) -> None:
        """Look at the generator's layers from now on; before its copies are made, they would be looked at too."""
        if self._mine is not None:
            self._mine.attach()

    def prepare(self, stream: TrainStream, output: Path) -> None:
        """With `cache`: compute what is missing of the teacher's outputs, and hold them in memory. Draws no number.

        Raises:
            DataError: outputs for this data set cannot be kept, or pictures have changed.
        """
        if self.distill.cache is None:
            return
        folder = output.absolute().parent / "teacher_outputs"
        if self.distill.cache_folder is not None:
            folder = Path(self.distill.cache_folder).expanduser()
        outputs = TeacherOutputs(
            self.teacher,
            stream.dataset,
            scale=self.config.scale,
            folder=folder,
            ensemble=self.distill.self_ensemble,
            form=self.distill.cache,
        )
        if self._pictures not in (None, outputs.pictures):
            raise DataError(
                "the training pictures are others than those that this run began with and that its teacher has seen: "
                "bring them back, start a new run with another --output, or set distill.cache: null."
            )
        self._pictures = outputs.pictures
        aligned_draw(stream)  # before work that a set too large for memory would make useless
        state = rng_state()
        outputs.complete(self.world)
        set_rng_state(state)
        self._memory = TargetMemory(
            stream,
            outputs.read,
            batch_size=self.config.training.batch_size // self.world.size,
            rank=self.world.rank,
            world_size=self.world.size,
            device=self.world.device,
        )

    def targets(self, batch: Batch) -> Tensor | None:
        """What the teacher makes of the patches of a batch, where it is kept: (B,3,H,W) in [0,1], channels_last."""
        return None if self._memory is None else self._memory.cut(batch)

    def state_dict(self) -> dict[str, str | None]:
        """By what a run that is continued knows that teacher and pictures are the same."""
        return {"sha256": self.teacher.facts["sha256"], "pictures": self._pictures}

    def load_state_dict(self, state: Mapping[str, Any]) -> list[str]:
        """Continue; returns what to say about it."""
        self._pictures = state["pictures"]
        if state["sha256"] == self.teacher.facts["sha256"]:
            return []
        return ["distill.teacher is another file than the one that this run began with"]

    def _features_loss(self, student: nn.Module) -> DistillFeaturesLoss:
        features, side, device = self.distill.features, self.config.training.patch_size, self.world.device
        assert features is not None
        self._theirs = Taps(self.teacher.net, features.teacher, "distill.features.teacher")
        self._mine = Taps(student, features.student, "distill.features.student")
        pairs = zip(self._mine.channels(side, device), self._theirs.channels(side, device), strict=True)
        self._theirs.attach()
        self.projections = nn.ModuleList(nn.Conv2d(mine, theirs, 1) for mine, theirs in pairs)
        return DistillFeaturesLoss(self._features, list(self.projections), criterion=features.criterion)

    def _target(self, inputs: LossInputs) -> Tensor:
        output, _ = self._look(inputs)
        return ensembled(self.teacher, inputs.lr, output) if self.distill.self_ensemble else output

    def _features(self, inputs: LossInputs) -> tuple[list[Tensor], list[Tensor]]:
        assert self._mine is not None, "built with the loss"
        return self._mine.maps(inputs.lr), self._look(inputs)[1]

    def _look(self, inputs: LossInputs) -> tuple[Tensor, list[Tensor]]:
        """Output and features of the teacher's pass over a batch, which both losses share."""
        # Known by the generator's output, which each iteration makes anew; the memory of `lr` may be used again.
        if self._seen is None or self._seen[0]() is not inputs.sr:
            output = self.teacher(inputs.lr)
            features = [] if self._theirs is None else self._theirs.maps(inputs.lr)
            self._seen = weakref.ref(inputs.sr), output, features
        return self._seen[1:]
