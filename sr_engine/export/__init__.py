"""Floor 4: networks as files for other programs: ONNX, and the archives of torch.export (.pt2).

export_onnx(net, "tiny-x4.onnx", precision="fp16")
export_pt2(net, "tiny-x4.pt2")
"""

from sr_engine.export.common import Exported
from sr_engine.export.onnx_file import export_onnx
from sr_engine.export.pt2_file import export_pt2
from sr_engine.export.verify import BOUNDS, SIZES, Difference, verify

__all__ = ["BOUNDS", "SIZES", "Difference", "Exported", "export_onnx", "export_pt2", "verify"]
