"""sr-engine: train super-resolution networks, upscale pictures with them, export them.

    net = sr_engine.load_model("runs/x4/model.safetensors")    # nn.Module, eval mode, `net.spec` attached
    up = sr_engine.Upscaler("runs/x4/model.safetensors")       # pictures in, pictures out
    out = up(image)
    model, report = sr_engine.accelerate(model)                # another project's network: its attention, fused

Names are loaded on first use, so that `import sr_engine` (and `sr-engine --help`) costs no torch import.
"""

from typing import TYPE_CHECKING, Any

from sr_engine.version import __version__

if TYPE_CHECKING:
    from sr_engine.dropin import accelerate, restore
    from sr_engine.infer.upscaler import Upscaler
    from sr_engine.models.community_register import register_spandrel
    from sr_engine.models.files import load_model

__all__ = ["Upscaler", "__version__", "accelerate", "load_model", "register_spandrel", "restore"]

_PLACES = {
    "Upscaler": "sr_engine.infer.upscaler",
    "accelerate": "sr_engine.dropin",
    "load_model": "sr_engine.models.files",
    "register_spandrel": "sr_engine.models.community_register",
    "restore": "sr_engine.dropin",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'sr_engine' has no attribute '{name}'")
