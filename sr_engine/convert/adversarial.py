"""Discriminators and the losses that look at them."""

import math

from sr_engine.convert.judged import Entry, Judged, only
from sr_engine.convert.values import NoEqualError, number, plain, whole

_GAN = {"vanilla": "vanilla", "lsgan": "lsgan", "hinge": "hinge", "wgan_softplus": "vanilla"}
_GAN_NEOSR = {"bce": "vanilla", "mse": "lsgan"}
_LABELS = "the original is 1 and the fake 0 here"


def gan(entry: Entry) -> Judged:
    """BasicSR's and traiNNer's: softplus of the Wasserstein kind is what vanilla is."""
    kind = str(entry.get("gan_type", "vanilla")).lower()
    if kind == "r3gan":
        return r3gan(entry)
    judged = Judged("gan", {"gan_type": _GAN.get(kind, "vanilla")}, {"gan_type": "gan_type"}, needs_d=True)
    if kind not in _GAN:
        judged.differences.append(f"gan_type {kind} is not here (vanilla, lsgan, hinge and relativistic are)")
    return _labels(judged, entry, read=kind not in ("hinge", "wgan_softplus"))


def gan_neosr(entry: Entry) -> Judged:
    """neosr's names of the same formulas."""
    kind = str(entry.get("gan_type", "bce")).lower()
    judged = Judged("gan", {"gan_type": _GAN_NEOSR.get(kind, "vanilla")}, {"gan_type": "gan_type"}, needs_d=True)
    if kind not in _GAN_NEOSR:
        judged.differences.append(f"gan_type {kind} is not here (vanilla, lsgan, hinge and relativistic are)")
    return _labels(judged, entry, read=True)


def r3gan(entry: Entry) -> Judged:
    """The same game with another shape of the loss and other penalties."""
    judged = Judged("gan", {"gan_type": "relativistic"}, {"gan_type": "gan_type"}, needs_d=True)
    judged.differences.append("R3GAN there has its own penalties and interval; here gan_type: relativistic")
    ignored = ("real_label_val", "fake_label_val", "r1_weight", "r2_weight", "reg_interval", "gp_crop", "use_relu")
    judged.always |= {key: "gradient_penalty here" for key in ignored if key in entry}
    return judged


def feature_matching(entry: Entry) -> Judged:
    """The same loss on the features of another discriminator."""
    criterion = str(entry.get("criterion", "l1"))
    judged = Judged("feature_matching", {"criterion": criterion}, {"criterion": "criterion"}, needs_d=True)
    if criterion not in ("l1", "l2", "charbonnier"):
        raise NoEqualError(f"criterion {criterion} is not here (l1, l2 and charbonnier are)")
    if criterion == "charbonnier":
        judged.arguments["eps"] = math.sqrt(number(1e-30)(entry.get("eps", 1e-6)))
        judged.targets["eps"] = "eps"
    judged.always["eps"] = "belongs to charbonnier"
    only(judged, entry, "reduction", "mean", ("mean",), "the mean over layers")
    judged.always["layers"] = "all layers"
    judged.differences.append("its layers are those of a discriminator that is not here; here all layers of unet")
    return judged


def unet(entry: Entry) -> Judged:
    """Real-ESRGAN's U-Net with spectral norm: the same network."""
    width = whole(1)(entry.get("num_feat", 64))
    judged = Judged("unet", {"width": width, "spectral_norm": True}, {"num_feat": "width"})
    only(judged, entry, "num_in_ch", 3, (3,), "discriminators see RGB")
    only(judged, entry, "skip_connection", True, (True,), "the skips are always there")
    return judged


def discriminator(entry: Entry, equal: tuple[str, ...]) -> Judged:
    """The discriminator of an option file; `equal`: types that are the U-Net of Real-ESRGAN."""
    name = entry.get("type")
    if plain(name) in equal:
        return unet(entry)
    judged = Judged("unet", {"width": 64})
    judged.differences.append(f"no discriminator like {name} is here (unet and patchgan are)")
    judged.always |= dict.fromkeys(map(str, entry), "another network")
    return judged


def _labels(judged: Judged, entry: Entry, *, read: bool) -> Judged:
    for key, value in (("real_label_val", 1.0), ("fake_label_val", 0.0)):
        if read:
            only(judged, entry, key, value, (value,), _LABELS)
        else:
            judged.always[key] = "not read by this type"
    return judged
