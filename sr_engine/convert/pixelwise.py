"""Losses on pixels and on VGG features."""

import math
import re

from sr_engine.convert.judged import Entry, Judged, only, reduction
from sr_engine.convert.values import NoEqualError, number

REAL_ESRGAN = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
_CRITERIA = {"l1": "l1", "l2": "l2", "mse": "l2"}
_LAYER = re.compile(r"conv(1_[12]|2_[12]|[345]_[1-4])")


def l1(entry: Entry) -> Judged:
    """Mean absolute error."""
    return reduction(Judged("l1"), entry)


def l2(entry: Entry) -> Judged:
    """Mean squared error."""
    return reduction(Judged("l2"), entry)


def charbonnier(entry: Entry) -> Judged:
    """sqrt(d^2 + eps) there, sqrt(d^2 + eps^2) here."""
    eps = number(1e-30)(entry.get("eps", 1e-12))
    return reduction(Judged("charbonnier", {"eps": math.sqrt(eps)}, {"eps": "eps"}), entry)


def perceptual_basicsr(entry: Entry) -> Judged:
    """Features of VGG19 before their ReLU, as here."""
    judged = _perceptual(entry, "l1", required=True)
    only(judged, entry, "vgg_type", "vgg19", ("vgg19",), "the network is VGG19")
    only(judged, entry, "use_input_norm", True, (True,), "the input is normalised")
    only(judged, entry, "range_norm", False, (False,), "pictures are in 0..1")
    only(judged, entry, "style_weight", 0.0, (0, 0.0), "there is no style loss")
    judged.always["loss_weight"] = "not read there: perceptual_weight is"
    return judged


def perceptual_trainner(entry: Entry) -> Judged:
    """The first convolution repeats the edge there, and other distances are possible."""
    criterion = str(entry.get("criterion", "pd+l1"))
    judged = _perceptual({**entry, "criterion": "l1"}, "l1", required=False)
    judged.differences.append("traiNNer repeats the picture's edge in the first convolution, here it is zero")
    if criterion not in ("l1", "charbonnier"):
        judged.differences.append(f"criterion {criterion}")
    elif criterion == "charbonnier":
        judged.arguments["criterion"] = "charbonnier"
        judged.differences.append("eps of Charbonnier is 1e-6 there and 1e-3 here")
    judged.targets["criterion"] = "criterion"
    return judged


def perceptual_neosr(entry: Entry) -> Judged:
    """neosr's default distance is Huber's."""
    judged = _perceptual({**entry, "criterion": "l1"}, "l1", required=False)
    criterion = str(entry.get("criterion", "huber"))
    if criterion in _CRITERIA:
        judged.arguments["criterion"] = _CRITERIA[criterion]
    else:
        judged.differences.append(f"criterion {criterion}")
    judged.targets["criterion"] = "criterion"
    only(judged, entry, "patchloss", False, (False,), "there is no patch loss")
    only(judged, entry, "ipk", False, (False,), "there is no patch kernel")
    judged.always["patch_weight"] = "belongs to patchloss"
    only(judged, entry, "vgg_type", "vgg19", ("vgg19",), "the network is VGG19")
    only(judged, entry, "use_input_norm", True, (True,), "the input is normalised")
    only(judged, entry, "range_norm", False, (False,), "pictures are in 0..1")
    return judged


def ms_ssim(entry: Entry) -> Judged:
    """The structural term alone is the same idea with other borders."""
    judged = Judged("ms_ssim")
    judged.differences.append("there it has zeros around the picture and always five scales")
    if str(entry["type"]).lower().replace("_", "") == "mssimloss":
        judged.differences.append("mssimloss adds a cosine distance of colours (cosim)")
    judged.always |= dict.fromkeys(("cosim", "cosim_lambda", "window_size", "sigma"), "not here")
    return judged


def _perceptual(entry: Entry, default: str, *, required: bool) -> Judged:
    layers = entry.get("layer_weights")
    if layers is None and required:
        raise NoEqualError("layer_weights is expected")
    if layers is None:
        layers = REAL_ESRGAN
    if not isinstance(layers, dict) or not layers:
        raise NoEqualError("layer_weights is a mapping of layers to weights")
    criterion = str(entry.get("criterion", default))
    judged = Judged("perceptual", {"layers": {str(key): number()(value) for key, value in layers.items()}})
    judged.targets |= {"layer_weights": "layers", "criterion": "criterion"}
    judged.arguments["criterion"] = _CRITERIA.get(criterion, "l1")
    if criterion not in _CRITERIA:
        judged.differences.append(f"criterion {criterion}: the distance is l1, l2 or charbonnier here")
    other = [name for name in judged.arguments["layers"] if not _LAYER.fullmatch(name)]
    if other:
        judged.differences.append(f"layers {', '.join(other)}: features are those of convolutions here")
        judged.arguments["layers"] = {
            name: value for name, value in judged.arguments["layers"].items() if name not in other
        } or dict(REAL_ESRGAN)
    return judged
