"""One adapter a family of networks; the first that recognises a module takes it, so the special come before the
general."""

from sr_engine.dropin.families.dat import DATChannel, DATSpatial
from sr_engine.dropin.families.hat import HATMasks, HybridBlock, OverlappingBlock
from sr_engine.dropin.families.swinir import SwinIRBlock
from sr_engine.dropin.families.timm_swin import TimmSwinBlock, TimmSwinV2Block
from sr_engine.dropin.fused import Fused

FAMILIES: list[type[Fused]] = [
    TimmSwinV2Block,
    TimmSwinBlock,
    DATSpatial,
    DATChannel,
    HATMasks,
    HybridBlock,
    OverlappingBlock,
    SwinIRBlock,
]
