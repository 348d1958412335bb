"""sr-engine: train super-resolution networks, upscale pictures with them, export them.

    net = sr_engine.load_model("runs/x4/model.safetensors")    # nn.Module, eval mode, `net.spec` attached
    up = sr_engine.Upscaler("runs/x4/model.safetensors")       # pictures in, pictures out
    out = up(image)

Names are loaded on first use, so that `import sr_engine` (and `sr-engine --help`) costs no torch import.
"""

from typing import TYPE_CHECKING, Any

from sr_engine.version import __version__

if TYPE_CHECKING:
    from sr_engine.infer.upscaler import Upscaler
    from sr_engine.models.files import load_model

__all__ = ["Upscaler", "__version__", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "Upscaler":
        from sr_engine.infer.upscaler import Upscaler

        return Upscaler
    if name == "load_model":
        from sr_engine.models.files import load_model

        return load_model
    raise AttributeError(f"module 'sr_engine' has no attribute '{name}'")
