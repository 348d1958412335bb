"""Our model files for programs that load networks with spandrel."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sr_engine.errors import EngineError
from sr_engine.models.community_arches import MissingSpandrelError
from sr_engine.models.files import DESCRIPTION, described_file, restored

ID = "sr-engine"


def register_spandrel() -> None:
    """Make `spandrel.ModelLoader().load_from_file(path)` load the model files of this project, in this process.

    The network is built from the description in the file, never guessed from shapes, and folded for inference. Files
    that were written before the description stood among the weights are refused by spandrel with a sentence that says
    how to bring them up to date. Networks of type `spandrel` need none of this. Calling it again does nothing.

    Raises:
        EngineError: spandrel is not installed.
    """
    try:
        from spandrel import MAIN_REGISTRY, ArchSupport  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingSpandrelError("register_spandrel needs spandrel: pip install 'sr-engine[zoo]'.") from None
    if ID in MAIN_REGISTRY:
        return
    others = tuple(support.architecture.id for support in MAIN_REGISTRY)
    MAIN_REGISTRY.add(ArchSupport.from_architecture(_architecture(), before=others))


def _architecture() -> Any:
    """spandrel's view of our networks; made here, since its base class is spandrel's."""
    from spandrel import (  # pyright: ignore[reportMissingImports]
        Architecture,
        ImageModelDescriptor,
        SizeRequirements,
        UnsupportedModelError,
    )

    class EngineArchitecture(Architecture[nn.Module]):
        def __init__(self) -> None:
            super().__init__(id=ID, detect=_is_ours)

        def load(self, state_dict: dict[str, Any]) -> Any:
            try:
                net, spec = _network(state_dict)
            except EngineError as error:
                raise UnsupportedModelError(str(error)) from error
            return ImageModelDescriptor(
                net,
                net.state_dict(),
                architecture=self,
                purpose="Restoration" if spec.scale == 1 else "SR",
                tags=[str(spec.arguments[key]) for key in ("preset",) if key in spec.arguments],
                supports_half=True,
                supports_bfloat16=True,
                scale=spec.scale,
                input_channels=spec.channels,
                output_channels=spec.channels,
                size_requirements=SizeRequirements(),
                call_fn=_call,
            )

    return EngineArchitecture()


def _is_ours(state: dict[str, Any]) -> bool:
    return DESCRIPTION in state or "upsampler.level" in state


def _network(state: dict[str, Any]) -> tuple[nn.Module, Any]:
    """The network of a file of ours, folded, and its description."""
    if DESCRIPTION not in state:
        raise EngineError(
            "a model file of sr-engine without a description among its weights, as early versions wrote them; bring it "
            "up to date with sr_engine.models.files.save_model(path, sr_engine.load_model(path))."
        )
    text = bytes(state[DESCRIPTION].cpu().numpy()).decode("utf-8")
    weights = {name: value for name, value in state.items() if name != DESCRIPTION}
    net = restored(described_file(Path("(state dict)"), text, weights))
    fold = getattr(net, "fold", None)
    if fold is not None:
        fold()
    return net.eval(), net.spec


def _call(net: nn.Module, image: Tensor) -> Tensor:
    """The last addition of our generators is in fp32; spandrel promises the type of the input."""
    return net(image).to(image.dtype)
