"""A network together with what changes its weights."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from sr_engine.config.schema import Training, Typed
from sr_engine.errors import TrainingError
from sr_engine.train.distributed import World
from sr_engine.train.optim import build_optimizer, gradient_norm, set_learning_rate
from sr_engine.train.sharding import divided, shard, together


class NonFiniteGradientError(TrainingError):
    """The gradient of a network is NaN or infinite although its losses are not; the weights have not been changed."""


class Learner:
    """The generator or the discriminator of a run.

    Args:
        role: "generator" or "discriminator", for messages.
        net: the network; moved to the device of `world`, channels_last.
        optimizer: its type and arguments.
        training: precision is given separately, since `auto` has been decided by now.
        dtype: of autocast; float16 gets a gradient scaler.
        sharded: whether weights and all that belongs to them are divided among the processes, instead of copied.
        companion: trained along with it by its losses, and no part of it: not averaged, not in its file.

    Attributes:
        net: the bare network: its state, and passes whose gradient does not concern it.
        forward: the network as it is trained: compiled and averaging gradients over ranks if that was asked for.
        recordable: whether `make_recordable` was called.
    """

    def __init__(
        self,
        role: str,
        net: nn.Module,
        optimizer: Typed,
        training: Training,
        dtype: torch.dtype,
        world: World,
        companion: nn.Module | None = None,
        *,
        sharded: bool = False,
    ) -> None:
        self.role, self.world = role, world
        self.device = world.device
        self.net = net.to(world.device, memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
        self.sharded = sharded
        if sharded:
            shard(self.net, world.device)
        self.companion = nn.Module() if companion is None else companion
        self.parameters = [p for part in (self.net, self.companion) for p in part.parameters() if p.requires_grad]
        self.optimizer: Optimizer = build_optimizer(optimizer.type, optimizer.arguments, self.parameters)
        self.base_lr = float(self.optimizer.defaults["lr"])
        self.clip = training.grad_clip
        self.recordable = False
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=dtype == torch.float16)
        wrapped: Any = self.net if sharded else world.wrap(self.net)
        self.parallel = wrapped if sharded or isinstance(wrapped, DistributedDataParallel) else None
        self.forward: Any = torch.compile(wrapped) if training.compile else wrapped

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those gathered so far."""
        self.scaler.scale(loss).backward()

    def exchanging(self, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a part of a batch: ranks exchange gradients in the last part only.

        Divided ones are exchanged in every part: until then they are whole on every process, which has no room for it.
        """
        return nullcontext() if last or self.parallel is None or self.sharded else self.parallel.no_sync()

    def step(self, lr: float) -> None:
        """Update the weights from the gradients gathered, and drop those.

        Raises:
            NonFiniteGradientError: on all ranks, and nothing has been changed. With fp16 the scaler skips such steps.
        """
        self.set_learning_rate(lr)
        # DDP exchanges the gradients of the network alone.
        self.world.average_(*(p.grad for p in self.companion.parameters() if p.grad is not None))
        self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(self.parameters, self.clip)
        if not self.scaler.is_enabled():
            self.check_norm(norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.drop_gradients()

    def step_unless(self, wrong: Tensor) -> None:
        """Update the weights unless `wrong` is 1, a scalar on the device that the host does not read.

        Only with fused Adam and AdamW, for which GradScaler has this signal. Fused SGD heeds it too, but its momentum
        holds any numbers after a first update that is left out.
        """
        optimizer: Any = self.optimizer
        optimizer.found_inf = wrong
        optimizer.step()

    def check_norm(self, norm: Tensor) -> None:
        """Raises NonFiniteGradientError for a norm that is not finite; waits for the device if it lies there."""
        if not math.isfinite(norm.item()):
            raise NonFiniteGradientError(f"not finite: gradient of the {self.role}; lower the learning rate.")

    def set_learning_rate(self, lr: float) -> None:
        """Give the optimiser the rate of this iteration."""
        set_learning_rate(self.optimizer, lr)

    def make_recordable(self) -> None:
        """Keep on the device what the optimiser reads in a step, so that a CUDA graph can replay it. Adam and AdamW."""
        self.recordable = True
        optimizer: Any = self.optimizer
        optimizer._warned_capturable_if_run_uncaptured = True  # the first iterations are not recorded: no news
        for group in self.optimizer.param_groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=self.device)

    def drop_gradients(self) -> None:
        """Forget gradients, as after a step that is skipped."""
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self, keep: bool = True) -> dict[str, Any]:
        """Plain values and tensors; with divided weights call it on all ranks, of which those with `keep` get them."""
        own = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {
            **(together(own, keep) if self.sharded else own),
            "companion": self.companion.state_dict(),
            "optimizer_type": type(self.optimizer).__name__,
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; another type of optimiser starts with empty moments."""
        mine = self.net.state_dict()
        weights = state["net"]
        if self.sharded:  # names that do not fit are told by load_state_dict
            weights = {name: divided(value, mine.get(name, value)) for name, value in weights.items()}
        self.net.load_state_dict(weights)
        self.companion.load_state_dict(state.get("companion", {}))
        if state["optimizer_type"] == type(self.optimizer).__name__:
            self.optimizer.load_state_dict(self._divided(state["optimizer"]))
            self._lay_out_moments()
            for group in self.optimizer.param_groups:  # arguments are those of the configuration, not of the state
                group.update(self.optimizer.defaults)
            if self.recordable:
                self.make_recordable()
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])

    def _divided(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state of an optimiser with moments divided as their parameters are."""
        if not self.sharded:
            return dict(state)
        memory = {
            number: {
                key: divided(value, self.parameters[number])
                if isinstance(value, Tensor) and value.shape == self.parameters[number].shape
                else value
                for key, value in values.items()
            }
            for number, values in state["state"].items()
        }
        return {**state, "state": memory}

    def _lay_out_moments(self) -> None:
        """Give moments the memory layout of their parameters: fused optimisers walk through both as they lie there."""
        for parameter, memory in () if self.sharded else self.optimizer.state.items():
            for key, value in memory.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    memory[key] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
