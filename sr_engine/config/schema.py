"""What a configuration holds: every key with its type, default and meaning.

The text under a key is its entry in docs/configuration.md and in the JSON schema for editors. Keys of an entry with a
`type` (networks, losses, data sets, optimisers, schedulers) are the arguments of what is registered under that name;
`Slot` marks such entries and `sr_engine.config.arguments` checks them.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from sr_engine.config.registry import Kind
from sr_engine.device import Precision

NonNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A mapping with fixed keys; nothing is converted, except that a whole number may stand for a number."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


@dataclass(frozen=True)
class Slot:
    """Marks a key whose value is an entry with a `type` of this kind (`each`: a mapping of names to such entries)."""

    kind: Kind
    default: str | None = None
    each: bool = False


class Typed(Section):
    """An entry with a `type`. In a file the arguments stand beside `type`: `{type: unet, width: 64}`."""

    type: str
    arguments: dict[str, Any] = {}


class WeightSchedule(Section):
    """The weight of a loss over the training. A plain number in its place is a constant weight."""

    start_iter: NonNegativeInt = 0
    """Iteration at which the ramp begins; before it the weight is `initial_weight`."""
    initial_weight: NonNegative = 0.0
    """Weight until `start_iter`. A loss is not computed while its weight is 0."""
    final_weight: NonNegative
    """Weight from the end of the ramp on."""
    ramp: Literal["linear", "cosine", "step"] = "linear"
    """Shape of the way from the initial to the final weight; `step` goes there at once, at `start_iter`."""
    ramp_iters: PositiveInt | None = None
    """Length of the ramp; without it the ramp ends with the training."""

    @model_validator(mode="before")
    @classmethod
    def _number_is_constant(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"initial_weight": value, "final_weight": value, "ramp": "step"}
        if not isinstance(value, dict | cls):
            raise PydanticCustomError(
                "expected", "a number or a schedule such as {start_iter: 1000, final_weight: 0.1}"
            )
        return value

    @model_validator(mode="after")
    def _step_has_no_length(self) -> Self:
        if self.ramp == "step" and self.ramp_iters is not None:
            raise PydanticCustomError("expected", "no ramp_iters together with ramp: step")
        return self

    @property
    def constant(self) -> bool:
        """Whether the weight is the same at every iteration."""
        return self.initial_weight == self.final_weight

    def at(self, it: int, total_iter: int) -> float:
        """Weight at iteration `it` of a training of `total_iter` iterations."""
        if it < self.start_iter:
            return self.initial_weight
        length = self.ramp_iters if self.ramp_iters is not None else total_iter - self.start_iter
        if self.ramp == "step" or it - self.start_iter >= length:
            return self.final_weight
        progress = (it - self.start_iter) / length
        if self.ramp == "cosine":
            progress = 0.5 - 0.5 * math.cos(math.pi * progress)
        return self.initial_weight + (self.final_weight - self.initial_weight) * progress


class LossConfig(Typed):
    """A loss: its type (default: the key it stands under), its weight, and the arguments of the type."""

    loss_weight: WeightSchedule = WeightSchedule(initial_weight=1.0, final_weight=1.0, ramp="step")
    """A number, or a schedule: the keys of [`loss_weight`](#losseskeyloss_weight)."""


class BalanceConfig(Section):
    """Weighs losses by their gradients at the generator's last layer instead of by their numbers: a loss with
    `loss_weight` w pulls w / w_reference times as hard as the reference loss, whatever the scale of its value."""

    mode: Literal["grad_ratio"] = "grad_ratio"
    """The only method there is; `balance: grad_ratio` alone takes all defaults."""
    reference: str | None = None
    """Key of the loss that the others are measured against; null is the first one under `losses`."""
    every: PositiveInt = 10
    """Iterations between two measurements of the gradients."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Of the moving average over the measurements."""
    limit: Annotated[float, Field(ge=1)] = 10.0
    """The factor on a weight stays within this ratio of its value after the first ten measurements."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"mode": value}
        return value


class Datasets(Section):
    """Pictures to train on and to validate with."""

    train: Annotated[Typed, Slot("dataset")]
    """Pictures to learn from."""
    val: Annotated[Typed | None, Slot("dataset")] = None
    """Whole pictures to validate with, never trained on; null switches validation off."""


class Stage(Section):
    """A stretch of the training at one scale. It begins with the averaged weights of the stage before (as with
    `load_from`; the last convolution is interpolated for a new scale), an optimiser and an average of its own and,
    where there is one, the discriminator as it is. Iterations, schedules of losses and the log go on; learning rates
    begin anew."""

    scale: Annotated[int, Field(ge=1, le=4)]
    """Enlargement in this stage; that of the last stage is the `scale` of the configuration."""
    iters: PositiveInt | None = None
    """Length of the stage in iterations."""
    epochs: PositiveInt | None = None
    """Its length in place of `iters`; an epoch is as many patches as there are pictures to train on."""
    batch_size: PositiveInt | None = None
    """Replaces `training.batch_size`."""
    patch_size: Annotated[int, Field(ge=4)] | None = None
    """Replaces `training.patch_size`."""
    optim_g: Annotated[Typed | None, Slot("optimizer", "AdamW")] = None
    """Replaces values of `training.optim_g`, such as `{lr: 5e-4}`; with another `type` all of them."""
    optim_d: Annotated[Typed | None, Slot("optimizer", "AdamW")] = None
    """Replaces values of `training.optim_d`."""
    scheduler: Annotated[Typed | None, Slot("scheduler", "cosine")] = None
    """Replaces values of `training.scheduler`, whose iterations count from the beginning of the stage."""


class Training(Section):
    """Length, batches, optimisation and safety of a training."""

    total_iter: NonNegativeInt
    """Length of the training in iterations. With a `curriculum` it may be left out: the sum of the stages."""
    batch_size: PositiveInt = 16
    """Patches in a batch, over all processes."""
    patch_size: Annotated[int, Field(ge=4)] = 48
    """Side of a patch in low-resolution pixels."""
    optim_g: Annotated[Typed, Slot("optimizer", "AdamW")] = Typed(type="AdamW")
    """Optimiser of the generator: any of torch.optim by name, with its arguments."""
    optim_d: Annotated[Typed, Slot("optimizer", "AdamW")] = Typed(type="AdamW")
    """Optimiser of the discriminator."""
    scheduler: Annotated[Typed, Slot("scheduler", "cosine")] = Typed(type="cosine")
    """Learning rate over the training."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the generator's weights, which is what is validated and saved; 0 is none."""
    precision: Precision = "auto"
    """`auto` is bf16 where the hardware has it and it is faster, else fp32."""
    grad_clip: PositiveFloat | None = 1.0
    """Largest norm of a network's gradient; null does not clip."""
    accumulate: PositiveInt = 1
    """Number of equal parts that a batch is computed in, one after the other, to save memory."""
    seed: NonNegativeInt = 0
    """Of weights, crops and augmentation."""
    compile: bool = False
    """Whether torch.compile is applied to the networks."""
    cuda_graph: bool = False
    """Whether iterations are recorded as a CUDA graph and replayed, which spares a GPU the wait for the host where the
    network is small. Needs CUDA, Adam or AdamW without `fused: false` or `foreach: true`, precision bf16 or fp32, one
    process, and no discriminator, balance or accumulate above 1; where it cannot be, iterations run as usual and one
    line says why."""
    accelerate: bool = True
    """Whether known attention layers of a network of another project are swapped for fused ones that compute the same
    (`sr_engine.accelerate`). What is saved does not depend on it."""
    validate_every: PositiveInt = 1000
    """Iterations between two validations; there is always one at the end."""
    checkpoint_every: PositiveInt = 1000
    """Iterations between two checkpoints; there is always one at the end."""
    keep_last: PositiveInt = 3
    """Number of newest checkpoints that are kept."""
    keep_best: bool = True
    """Whether the checkpoint with the best validation PSNR is kept as well."""
    net_d_iters: PositiveInt = 1
    """Discriminator updates in each iteration, each on a batch of its own."""
    net_d_init_iters: NonNegativeInt = 0
    """Iterations that the discriminator is trained before the generator first hears it."""
    balance: BalanceConfig | None = None
    """`grad_ratio`, or a mapping: the keys of [`training.balance`](#trainingbalance)."""
    max_bad_steps: PositiveInt = 10
    """The training stops after this many steps in a row with a loss or gradient that is not finite."""
    curriculum: Annotated[list[Stage], Field(min_length=1)] | None = None
    """Stages trained one after the other in one run, such as `[{scale: 2, iters: 30000}, {scale: 4, iters: 60000}]`."""


class Validation(Section):
    """What happens at a validation."""

    save_images: NonNegativeInt = 4
    """Number of pictures of which a fixed crop is saved each time."""
    tile: PositiveInt | Literal["auto", "off"] = "auto"
    """Tile side in low-resolution pixels; `auto` takes what fits in memory."""


class Logging(Section):
    """What is reported while training."""

    print_every: PositiveInt = 50
    """Iterations between two lines of the log."""
    tensorboard: bool = True
    """Whether TensorBoard events are written."""


class Config(Section):
    """A training run."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    """Name of the run; its results go to `runs/<name>` by default."""
    scale: Annotated[int, Field(ge=1, le=4)]
    """Enlargement, 1 to 4; 1 restores without enlarging."""
    network_g: Annotated[Typed, Slot("network_g", "generator")] = Typed(type="generator")
    """The network that is trained. Its scale is `scale`; a `scale` here is accepted and must be equal."""
    network_d: Annotated[Typed | None, Slot("network_d")] = None
    """The discriminator, needed by the losses `gan` and `feature_matching`; null is none."""
    load_from: str | None = None
    """Model file, run folder, model name, or file of weights of another program to start from. A network of type
    `generator` takes what fits and converts another scale; for type `spandrel` see `strict_load_g`."""
    param_key_g: str | None = None
    """Where in a file of another program the weights are, such as `params_ema` or `params`; null takes the averaged
    ones where there are any."""
    strict_load_g: bool = True
    """For networks of type `spandrel`: whether a weight of `load_from` that does not fit, or one that it lacks, is an
    error. false takes what fits and lists what did not."""
    plugins: list[str] = []
    """Python files, relative to this one, that register further types."""
    datasets: Datasets
    losses: Annotated[dict[str, LossConfig], Slot("loss", each=True), Field(min_length=1)]
    """Losses by a name of your choice."""
    training: Training
    validation: Validation = Validation()
    logging: Logging = Logging()
