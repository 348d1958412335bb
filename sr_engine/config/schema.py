"""What a configuration holds: every key with its type, default and meaning.

The text under a key is its entry in docs/configuration.md and in the JSON schema for editors. Keys of an entry with a
`type` (networks, losses, data sets, optimisers, schedulers) are the arguments of what is registered under that name;
`Slot` marks such entries and `sr_engine.config.arguments` checks them.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from sr_engine.config.distill import Distill
from sr_engine.config.entries import LossConfig as LossConfig
from sr_engine.config.entries import Section as Section
from sr_engine.config.entries import Slot as Slot
from sr_engine.config.entries import Typed as Typed
from sr_engine.config.entries import WeightSchedule as WeightSchedule
from sr_engine.config.prune import Prune
from sr_engine.device import Precision


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
    (`sr_engine.accelerate`), in a teacher too. What is saved does not depend on it."""
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
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """With several processes: `ddp` gives each a copy of the networks. `fsdp` divides the weights, gradients, moments
    and the average of the generator among them, for one that does not fit; the discriminator is copied. It excludes
    compile, cuda_graph, balance, prune, distill.features and precision fp16. Checkpoints are the same, so either
    continues the other."""
    timeout: PositiveFloat = 600.0
    """Seconds that a step of several processes waits for one of them before the run ends. The first step may compile,
    so it is not for seconds; reading pictures, validations and checkpoints are waited for longer."""
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
    `generator` takes what fits and converts another scale, and takes the widths of a pruned file whose layout is the
    same otherwise, unless `network_g` names others; for type `spandrel` see `strict_load_g`."""
    param_key_g: str | None = None
    """Where in a file of another program the weights are, such as `params_ema` or `params`; null takes the averaged
    ones where there are any."""
    strict_load_g: bool = True
    """For networks of type `spandrel`: whether a weight of `load_from` that does not fit, or one that it lacks, is an
    error. false takes what fits and lists what did not."""
    plugins: list[str] = []  # noqa: RUF012 (pydantic copies it)
    """Python files, relative to this one, that register further types."""
    datasets: Datasets
    losses: Annotated[dict[str, LossConfig], Slot("loss", each=True), Field(min_length=1)]
    """Losses by a name of your choice."""
    distill: Distill | None = None
    """A teacher, a network of the same scale whose output the generator learns from as well: the keys of
    [`distill`](#distill). null is none."""
    prune: Prune | None = None
    """Makes the network smaller while it is trained: the keys of [`prune`](#prune). null does not."""
    training: Training
    validation: Validation = Validation()
    logging: Logging = Logging()
