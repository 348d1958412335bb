"""A registry with a few small entries in place of the real rooms, and a configuration that is complete with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args

import pytest
from pydantic import Field
from torch import Tensor, nn

from sr_engine.config import registry


class Blur(TypedDict):
    sigma: float
    sizes: NotRequired[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise.

    Args:
        level: strength.
    """

    level: Annotated[float, Field(ge=0)] = 1.0


class Network:
    """A network.

    Args:
        width: channels of the body,
            all of them.
    """

    def __init__(
        self, *, scale: int, width: int = 32, preset: Literal["nano", "tiny"] = "tiny", dim: int | None = None
    ):
        self.arguments = (scale, width, preset, dim)


class Critic:
    def __init__(self, *, width: int = 64): ...


class Pixel:
    needs = frozenset()

    def __init__(self, *, eps: float = 1e-3, norm: type[nn.Module] | None = None): ...


class Matching:
    needs = frozenset({"fake", "real"})

    def __init__(
        self, *, criterion: Literal["l1", "l2"] = "l1", layers: Sequence[str | int] | Literal["all"] = "all"
    ): ...


class Pictures:
    def __init__(
        self,
        *,
        path: str | list[str] | dict[str, float],
        degradation: Literal["bicubic"] | Blur | Noise = "bicubic",
        threshold: float | Tensor = 0.5,
        copy: bool = True,
        root: Path | None = None,
        powers: Literal[1, 2] = 1,
    ): ...


def cosine(*, warmup_iter: int = 0, min_lr: float = 1e-6) -> None: ...


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only these types are registered."""
    monkeypatch.setattr(registry, "_entries", {kind: {} for kind in get_args(registry.Kind)})
    types: tuple[tuple[registry.Kind, str, Callable[..., Any]], ...] = (
        ("network_g", "generator", Network),
        ("network_d", "unet", Critic),
        ("loss", "l1", Pixel),
        ("loss", "feature_matching", Matching),
        ("dataset", "pictures", Pictures),
        ("scheduler", "cosine", cosine),
    )
    for kind, name, target in types:
        registry.register(kind, name)(target)


COMPLETE = """\
name: x4
scale: 4
datasets:
  train: {type: pictures, path: photos}
losses:
  l1: {}
training:
  total_iter: 100
"""


@pytest.fixture
def complete() -> str:
    """The shortest complete configuration, 8 lines."""
    return COMPLETE
