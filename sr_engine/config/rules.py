"""What no single key can tell: keys that contradict each other."""

from collections.abc import Iterator

from sr_engine.config import registry
from sr_engine.config.curriculum import broken_stages
from sr_engine.config.problems import Problem
from sr_engine.config.prune import broken_turns
from sr_engine.config.schema import Config, WeightSchedule
from sr_engine.config.yaml12 import KeyPath


def broken_rules(config: Config) -> list[Problem]:
    """Contradictions in a configuration whose keys are valid one by one."""
    checks = (_network, _schedules, _discriminator, _lengths, _balance, _distill, _prune, _parallel, broken_stages)
    return [problem for check in checks for problem in check(config)]


def _network(config: Config) -> Iterator[Problem]:
    network = config.network_g
    if network.type == "spandrel" and network.arguments.get("arch") is None and config.load_from is None:
        text = "expected arch, such as SwinIR, or load_from: the file to take the network from, got neither"
        yield Problem(("network_g",), text)


def _schedules(config: Config) -> Iterator[Problem]:
    total = config.training.total_iter
    weights: dict[KeyPath, WeightSchedule] = {
        ("losses", name): loss.loss_weight for name, loss in config.losses.items()
    }
    if config.distill is not None:
        weights["distill",] = config.distill.loss_weight
        if config.distill.features is not None:
            weights["distill", "features"] = config.distill.features.loss_weight
    for path, weight in weights.items():
        if weight.start_iter >= total > 0:
            text = f"expected less than training.total_iter ({total}), got {weight.start_iter}"
            yield Problem((*path, "loss_weight", "start_iter"), text)


def _discriminator(config: Config) -> Iterator[Problem]:
    adversarial = [name for name, loss in config.losses.items() if needs_discriminator(loss.type)]
    if config.network_d is None:
        for name in adversarial:
            kind = config.losses[name].type
            yield Problem(("losses", name), f"expected a discriminator, which {kind} needs, got no network_d")
    elif not adversarial and all(loss.type in registry.names("loss") for loss in config.losses.values()):
        usual = [name for name in registry.names("loss") if needs_discriminator(name)]
        yield Problem(("network_d",), f"expected a loss that uses it ({', '.join(usual)}), got none")


def needs_discriminator(loss_type: str) -> bool:
    """Whether losses of this type look at the discriminator."""
    return loss_type in registry.names("loss") and bool(getattr(registry.get("loss", loss_type), "needs", frozenset()))


def _lengths(config: Config) -> Iterator[Problem]:
    total = config.training.total_iter
    if config.training.net_d_init_iters >= total > 0:
        got = config.training.net_d_init_iters
        yield Problem(("training", "net_d_init_iters"), f"expected less than training.total_iter ({total}), got {got}")
    warmup = config.training.scheduler.arguments.get("warmup_iter", 0)
    if isinstance(warmup, int) and warmup >= total > 0 and config.training.curriculum is None:
        path = ("training", "scheduler", "warmup_iter")
        yield Problem(path, f"expected less than training.total_iter ({total}), got {warmup}")
    batch, parts = config.training.batch_size, config.training.accumulate
    if batch % parts:
        text = f"expected a divisor of training.batch_size ({batch}), got {parts}"
        yield Problem(("training", "accumulate"), text)


def _balance(config: Config) -> Iterator[Problem]:
    balance = config.training.balance
    if balance is not None and balance.reference is not None and balance.reference not in config.losses:
        text = f"expected one of {', '.join(config.losses)}, got '{balance.reference}'"
        yield Problem(("training", "balance", "reference"), text)


def _distill(config: Config) -> Iterator[Problem]:
    if config.distill is None:
        return
    for name in sorted(config.distill.losses().keys() & config.losses.keys()):
        yield Problem(("losses", name), f"expected another name: {name} is what the log calls the loss of distill")
    features, path = config.distill.features, ("distill", "features")
    if features is None:
        return
    if len(features.student) != len(features.teacher):
        text = f"expected as many layers as student has ({len(features.student)}), got {len(features.teacher)}"
        yield Problem((*path, "teacher"), text)
    if config.training.compile:
        yield Problem(path, "expected training.compile: false, since a compiled network does not show its layers")
    if config.training.balance is not None:
        text = "expected no training.balance: it measures losses at the last layer, which features do not reach"
        yield Problem(path, text)


def _prune(config: Config) -> Iterator[Problem]:
    if config.prune is None:
        return
    yield from broken_turns(config.prune, config.training.total_iter)
    if config.training.curriculum is not None:
        text = "expected no training.curriculum: prune in a run of its own, with load_from what this one makes"
        yield Problem(("prune",), text)
    if config.distill is not None and config.distill.features is not None:
        text = "expected no distill.features: its projections fit the layers of the network as it begins"
        yield Problem(("prune",), text)


def _parallel(config: Config) -> Iterator[Problem]:
    training = config.training
    if training.parallel != "fsdp":
        return
    reasons = {
        "prune: weights that are divided among processes cannot be cut": config.prune is not None,
        "training.balance: it looks at the gradient of a weight that is divided": training.balance is not None,
        "training.compile: nobody has tried both together": training.compile,
        "training.cuda_graph: an iteration of several processes cannot be recorded": training.cuda_graph,
        "distill.features: its projections are whole on every process": (
            config.distill is not None and config.distill.features is not None
        ),
        "precision fp16: use bf16 or fp32": training.precision == "fp16",
    }
    for reason in (reason for reason, holds in reasons.items() if holds):
        yield Problem(("training", "parallel"), f"expected ddp, or no {reason}")
