"""What a configuration says about learning from a teacher."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from sr_engine.config.entries import LossConfig, Section, WeightSchedule

Layers = Annotated[list[str | int], Field(min_length=1)]
Criterion = Literal["l1", "l2", "charbonnier"]

_ONE = WeightSchedule(initial_weight=1.0, final_weight=1.0, ramp="step")


class DistillFeatures(Section):
    """Layers of the generator that shall look like layers of the teacher, through 1x1 convolutions that are learned
    along with the generator and are left out of its file. Loss `distill_features` in the log: the mean over the pairs
    of layers. Without `training.compile`, `training.balance` and `fsdp`."""

    student: Layers
    """Layers of the generator: dotted names of its modules, or numbers, which count its blocks (negative from the
    end). A name that is not there lists what there is."""
    teacher: Layers
    """The layers of the teacher that they learn from, one for each."""
    loss_weight: WeightSchedule = _ONE
    """A number, 1 by default, or a schedule: the keys of [`loss_weight`](#losseskeyloss_weight)."""
    criterion: Criterion = "l1"
    """Distance of two features, both divided by the mean magnitude of the teacher's."""


class Distill(Section):
    """A teacher: a frozen network of the same scale whose enlargement of each patch is a second target beside the
    original. Loss `distill` in the log. Stages of a curriculum that have another scale go without."""

    teacher: str
    """Model name, run folder, model file, or any file of weights that spandrel knows (extra `zoo`)."""
    loss_weight: WeightSchedule = _ONE
    """A number, 1 by default, or a schedule: the keys of [`loss_weight`](#losseskeyloss_weight)."""
    criterion: Criterion = "l1"
    """Distance of the generator's output and the teacher's."""
    confidence: PositiveFloat | None = None
    """Counts a pixel less where the teacher is wrong: its distance is multiplied by exp(-confidence * |teacher -
    original|), but at least 0.1; 10 is usual. null counts all alike."""
    self_ensemble: bool = False
    """Whether the target is the mean of the teacher's outputs for the 8 symmetries of the square: better, and 8 times
    the work. `cache` makes it once."""
    cache: Literal["uint8", "float16"] | None = None
    """Form in which the teacher's outputs for whole training pictures, computed once and in fp32, are kept on the disk
    and held in memory (3 or 6 bytes a pixel of the originals). Patches then begin at multiples of `scale` only, and
    their targets know what lies around the patch. For sets that fit into `cache_mb`, without real-world degradation.
    null runs the teacher on each batch."""
    cache_folder: str | None = None
    """Where these outputs are kept, in a folder named after teacher and pictures; null is `teacher_outputs` beside the
    folder of the run, so that runs share them."""
    features: DistillFeatures | None = None
    """Learn from layers of the teacher too: the keys of [`distill.features`](#distillfeatures). The teacher then runs
    on each batch."""

    def losses(self) -> dict[str, LossConfig]:
        """What it adds to the losses of the run, by name."""
        added = {"distill": LossConfig(type="distill", loss_weight=self.loss_weight)}
        if self.features is not None:
            added["distill_features"] = LossConfig(type="distill_features", loss_weight=self.features.loss_weight)
        return added
