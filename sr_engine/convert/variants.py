"""The named sizes of architectures in traiNNer-redux, as arguments of the class in spandrel that they build.

Only what is certain: a variant whose arguments changed between versions of traiNNer-redux names those (`open`), and
has an equal only in files that give them.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A name of a network.

    arch:   spandrel's id of the architecture.
    fixed:  arguments of the variant that are not the defaults of the class; a file may replace them.
    open:   arguments that must stand in the file, since their default differs between versions.
    scales: scales at which it is the same network.
    """

    arch: str
    fixed: dict[str, Any] = field(default_factory=dict)
    open: tuple[str, ...] = ()
    scales: tuple[int, ...] = (1, 2, 3, 4)


def _six(count: int) -> list[int]:
    return [6] * count


def _swin(embed: int, groups: int, heads: int, upsampler: str, residual: str, side: int) -> dict[str, Any]:
    return {
        "img_size": side,
        "embed_dim": embed,
        "depths": _six(groups),
        "num_heads": [heads] * groups,
        "window_size": 8,
        "mlp_ratio": 2.0,
        "upsampler": upsampler,
        "resi_connection": residual,
    }


def _hat(groups: int, embed: int, compress: int, squeeze: int) -> dict[str, Any]:
    return {
        "img_size": 64,
        "window_size": 16,
        "compress_ratio": compress,
        "squeeze_factor": squeeze,
        "embed_dim": embed,
        "depths": _six(groups),
        "num_heads": _six(groups),
        "mlp_ratio": 2.0,
        "upsampler": "pixelshuffle",
    }


def _dat(split: list[int], expansion: float) -> dict[str, Any]:
    return {"split_size": split, "depth": _six(6), "num_heads": _six(6), "expansion_factor": expansion}


def _drct(groups: int) -> dict[str, Any]:
    return {"depths": _six(groups), "num_heads": _six(groups), "upsampler": "pixelshuffle"}


def _rgt(groups: int) -> dict[str, Any]:
    return {"split_size": [8, 32], "depth": _six(groups), "num_heads": _six(groups), "mlp_ratio": 2.0}


def _atd(side: int, embed: int, groups: int, heads: int, **rest: Any) -> dict[str, Any]:
    size = {"img_size": side, "embed_dim": embed, "depths": _six(groups), "num_heads": [heads] * groups}
    return {**size, "window_size": 16, **rest}


def _srformer(side: int, window: int, embed: int, groups: int, upsampler: str) -> dict[str, Any]:
    size = {"img_size": side, "window_size": window, "embed_dim": embed}
    depth = {"depths": _six(groups), "num_heads": _six(groups), "mlp_ratio": 2.0}
    return {**size, **depth, "upsampler": upsampler}


_SWIN = {
    "s": _swin(60, 4, 6, "pixelshuffledirect", "1conv", 64),
    "m": _swin(180, 6, 6, "pixelshuffle", "1conv", 48),
    "l": _swin(240, 9, 8, "nearest+conv", "3conv", 64),
}
_SWIN2 = {name: {**fixed, "img_size": 64} for name, fixed in _SWIN.items()}
_RGB = {"num_in_ch": 3, "num_out_ch": 3}
_LIGHT = {"img_size": 64, "depth": [18], "embed_dim": 60, "num_heads": [6], "expansion_factor": 2.0}

# By the type as `values.plain` spells it.
REDUX: dict[str, Variant] = {
    "swinir": Variant("SwinIR"),
    "swinirs": Variant("SwinIR", _SWIN["s"]),
    "swinirm": Variant("SwinIR", _SWIN["m"]),
    "swinirl": Variant("SwinIR", _SWIN["l"]),
    "swin2srs": Variant("Swin2SR", _SWIN2["s"]),
    "swin2srm": Variant("Swin2SR", _SWIN2["m"]),
    "swin2srl": Variant("Swin2SR", _SWIN2["l"]),
    "hat": Variant("HAT"),
    "hats": Variant("HAT", _hat(6, 144, 24, 24)),
    "hatm": Variant("HAT", _hat(6, 180, 3, 30)),
    "hatl": Variant("HAT", _hat(12, 180, 3, 30)),
    "dat": Variant("DAT", _dat([8, 32], 4.0)),
    "dats": Variant("DAT", _dat([8, 16], 2.0)),
    "dat2": Variant("DAT", _dat([8, 32], 2.0)),
    "datlight": Variant("DAT", {**_LIGHT, "split_size": [8, 32], "resi_connection": "3conv"}, open=("upsampler",)),
    "drct": Variant("DRCT", _drct(6)),
    "drctl": Variant("DRCT", _drct(12)),
    "drctxl": Variant("DRCT", _drct(14)),
    "rgt": Variant("RGT", _rgt(8)),
    "rgts": Variant("RGT", _rgt(6)),
    "atd": Variant(
        "ATD", _atd(96, 210, 6, 6, category_size=256, num_tokens=128, reducted_dim=20, upsampler="pixelshuffle")
    ),
    "atdlight": Variant(
        "ATD",
        _atd(
            *(64, 48, 4, 4),
            category_size=128,
            num_tokens=64,
            reducted_dim=8,
            convffn_kernel_size=7,
            mlp_ratio=1.0,
            upsampler="pixelshuffledirect",
        ),
    ),
    "srformer": Variant("SRFormer", _srformer(48, 24, 180, 6, "pixelshuffle")),
    "srformerlight": Variant("SRFormer", _srformer(64, 16, 60, 4, "pixelshuffledirect")),
    "craft": Variant("CRAFT"),
    "omnisr": Variant("OmniSR", {"res_num": 5, "block_num": 1, "window_size": 8, "pe": True}),
    "safmn": Variant("SAFMN", {"dim": 36, "n_blocks": 8}),
    "safmnl": Variant("SAFMN", {"dim": 128, "n_blocks": 16}),
    "span": Variant("SPAN", {**_RGB, "norm": False}, open=("feature_channels",)),
    "spans": Variant("SPAN", {**_RGB, "norm": False, "feature_channels": 48}),
    "compact": Variant("Compact", {"num_feat": 64, "num_conv": 16}),
    "ultracompact": Variant("Compact", {"num_feat": 64, "num_conv": 8}),
    "superultracompact": Variant("Compact", {"num_feat": 24, "num_conv": 8}),
    "plksr": Variant("PLKSR"),
    "realplksr": Variant("RealPLKSR", open=("layer_norm",)),
    "realplksrtiny": Variant("RealPLKSR", {"n_blocks": 12, "kernel_size": 13, "use_ea": False}, open=("layer_norm",)),
    "realplksrlarge": Variant("RealPLKSR", {"dim": 96}, open=("layer_norm",)),
    # Below x4 they unshuffle the input first, which spandrel's class does by another argument.
    "esrgan": Variant("ESRGAN", {"num_filters": 64, "num_blocks": 23}, scales=(4,)),
    "esrganlite": Variant("ESRGAN", {"num_filters": 32, "num_blocks": 12}, scales=(4,)),
}
REDUX |= {
    old: REDUX[new]
    for old, new in (("swinirsmall", "swinirs"), ("swinirmedium", "swinirm"), ("swinirlarge", "swinirl"))
}
