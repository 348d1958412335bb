"""Which upscaler each of many pictures gets."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from sr_engine.infer.default_model import choose, scale_for
from sr_engine.infer.upscaler import Upscaler


class Models(Protocol):
    """Which model a picture gets."""

    def prepare(self, sources: Sequence[Path]) -> None:
        """Choose for these pictures."""

    def load(self) -> None:
        """Load all that were chosen, so that what is wrong with one is said before any work."""

    def name(self, source: Path) -> str:
        """What the picture's model is called."""
        ...

    def upscaler(self, source: Path) -> Upscaler:
        """That model."""
        ...


class OneModel:
    """The same model for every picture; loaded when the first one asks."""

    def __init__(self, make: Callable[[], Upscaler], name: str) -> None:
        self._make, self._name = make, name

    def prepare(self, sources: Sequence[Path]) -> None:
        del sources

    def load(self) -> None:
        _ = self._up

    def name(self, source: Path) -> str:
        del source
        return self._name

    def upscaler(self, source: Path) -> Upscaler:
        del source
        return self._up

    @cached_property
    def _up(self) -> Upscaler:
        return self._make()


class DefaultModels:
    """The models that come along, each picture with the one for its kind of file and how large it becomes.

    Args:
        make: gives the Upscaler of a model name; called once for each model that some picture needs, before the work.
        factor: how many times as large a picture file becomes; None = SCALE.
        on_choice: called with one line for each model: for which pictures, and why.
    """

    def __init__(
        self,
        make: Callable[[str], Upscaler],
        factor: Callable[[Path], float | None],
        on_choice: Callable[[str], None] | None = None,
    ) -> None:
        self._make, self._factor, self._on_choice = make, factor, on_choice
        self._names: dict[Path, str] = {}
        self._upscalers: dict[str, Upscaler] = {}

    def prepare(self, sources: Sequence[Path]) -> None:
        """Choose for these pictures.

        Raises:
            ModelFileError: no model comes along.
        """
        by_scale: dict[int, list[Path]] = {}
        for source in sources:
            by_scale.setdefault(scale_for(self._factor(source)), []).append(source)
        for scale, pictures in sorted(by_scale.items()):
            choice = choose(pictures, scale)
            self._names.update(choice.models)
            if self._on_choice is not None:
                for reason in choice.reasons:
                    self._on_choice(reason)

    def load(self) -> None:
        """Raises what `make` raises."""
        for name in dict.fromkeys(self._names.values()):
            self._upscalers[name] = self._make(name)

    def name(self, source: Path) -> str:
        """Of the model for a picture that was prepared."""
        return self._names[source]

    def upscaler(self, source: Path) -> Upscaler:
        """For a picture that was prepared."""
        return self._upscalers[self._names[source]]
