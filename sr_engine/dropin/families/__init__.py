"""One adapter a family of networks; the first that recognises a module takes it, so the special come before the
general."""

from sr_engine.dropin.families.atd import ATDMasks, DictionaryLayer
from sr_engine.dropin.families.craft import CRAFTFusion, CRAFTWindows
from sr_engine.dropin.families.dat import DATSpatial
from sr_engine.dropin.families.dat_channel import DATChannel
from sr_engine.dropin.families.esc import ESCAttention
from sr_engine.dropin.families.fdat import FDATChannel, FDATSpatial
from sr_engine.dropin.families.grl import GRLWindows
from sr_engine.dropin.families.hat import HATMasks, HybridBlock
from sr_engine.dropin.families.hat_overlap import OverlappingBlock
from sr_engine.dropin.families.omnisr import OmniSRBlock
from sr_engine.dropin.families.restormer import CIDNetCross, TransposedAttention
from sr_engine.dropin.families.rgt import RGTLocal
from sr_engine.dropin.families.scunet import SCUNetAttention
from sr_engine.dropin.families.srformer import PERMUTED_BLOCKS
from sr_engine.dropin.families.swin2sr import Swin2SRBlock
from sr_engine.dropin.families.swinir import SwinIRBlock
from sr_engine.dropin.families.timm_swin import TimmSwinBlock, TimmSwinV2Block
from sr_engine.dropin.families.torchvision_swin import TorchvisionSwin, TorchvisionSwinV2
from sr_engine.dropin.families.uformer import UformerBlock
from sr_engine.dropin.fused import Fused

FAMILIES: list[type[Fused]] = [
    ESCAttention,
    GRLWindows,
    OmniSRBlock,
    CRAFTWindows,
    CRAFTFusion,
    TransposedAttention,
    CIDNetCross,
    UformerBlock,
    SCUNetAttention,
    RGTLocal,
    FDATChannel,
    FDATSpatial,
    TorchvisionSwinV2,
    TorchvisionSwin,
    TimmSwinV2Block,
    TimmSwinBlock,
    DATSpatial,
    DATChannel,
    HATMasks,
    HybridBlock,
    OverlappingBlock,
    ATDMasks,
    DictionaryLayer,
    *PERMUTED_BLOCKS,
    Swin2SRBlock,
    SwinIRBlock,
]


def register(adapter: type[Fused]) -> type[Fused]:
    """Add a family of one's own, before those that are here; also as a decorator."""
    FAMILIES.insert(0, adapter)
    return adapter
