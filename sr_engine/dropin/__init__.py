"""Drop-in replacement: attention layers of other people's networks on our kernels.

model, report = accelerate(model)    # in place, verified layer by layer
restore(model)                       # exactly as before
"""

from sr_engine.dropin.families import register
from sr_engine.dropin.fused import Fused, MaskOwner, NotExactError
from sr_engine.dropin.report import Layer, Report
from sr_engine.dropin.sites import Site
from sr_engine.dropin.swap import accelerate, restore

__all__ = ["Fused", "Layer", "MaskOwner", "NotExactError", "Report", "Site", "accelerate", "register", "restore"]
