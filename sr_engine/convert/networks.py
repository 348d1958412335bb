"""Generators: a community architecture becomes `type: spandrel` with the arguments of its class there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sr_engine.config.problems import show
from sr_engine.config.yaml12 import Value
from sr_engine.convert.translation import Translation
from sr_engine.convert.values import NoEqualError, plain
from sr_engine.convert.variants import REDUX, Variant

SCALES = ("scale", "upscale", "up_scale", "upscaling_factor")
CHANNELS = ("in_chans", "num_in_ch", "num_out_ch", "in_nc", "out_nc", "n_colors", "in_ch", "out_ch")
STAND_IN = {"type": "generator", "preset": "small"}

_SWIN = "img_size patch_size in_chans embed_dim depths num_heads window_size mlp_ratio qkv_bias"
_DROP = "drop_rate attn_drop_rate drop_path_rate"
_TAIL = "ape patch_norm use_checkpoint img_range upsampler resi_connection"
# Arguments of the classes of spandrel 0.4 that a file can give, without the scale.
ARGUMENTS: dict[str, frozenset[str]] = {
    arch: frozenset(names.split())
    for arch, names in {
        "SwinIR": f"{_SWIN} qk_scale {_DROP} {_TAIL} start_unshuffle",
        "Swin2SR": f"{_SWIN} {_DROP} {_TAIL}",
        "HAT": f"{_SWIN} qk_scale {_DROP} {_TAIL} compress_ratio squeeze_factor conv_scale overlap_ratio num_feat",
        "DAT": f"img_size in_chans embed_dim split_size depth num_heads expansion_factor qkv_bias qk_scale {_DROP} "
        "use_chk img_range resi_connection upsampler",
        "DRCT": f"{_SWIN} qk_scale {_DROP} ape patch_norm img_range upsampler resi_connection gc use_checkpoint",
        "RGT": f"img_size in_chans embed_dim depth num_heads mlp_ratio qkv_bias qk_scale {_DROP} use_chk img_range "
        "resi_connection split_size c_ratio",
        "ATD": f"{_SWIN} category_size num_tokens reducted_dim convffn_kernel_size ape patch_norm img_range upsampler "
        "resi_connection norm",
        "SRFormer": f"{_SWIN} qk_scale {_DROP} {_TAIL}",
        "CRAFT": "in_chans window_size embed_dim depths num_heads split_size_0 split_size_1 mlp_ratio qkv_bias "
        "qk_scale img_range resi_connection",
        "OmniSR": "num_in_ch num_out_ch num_feat block_num pe window_size res_num bias",
        "SAFMN": "dim n_blocks ffn_scale",
        "SPAN": "num_in_ch num_out_ch feature_channels bias norm img_range rgb_mean",
        "Compact": "num_in_ch num_out_ch num_feat num_conv act_type",
        "ESRGAN": "in_nc out_nc num_filters num_blocks shuffle_factor",
        "PLKSR": "dim n_blocks ccm_type kernel_size split_ratio lk_type use_max_kernel sparse_kernels sparse_dilations "
        "with_idt use_ea",
        "RealPLKSR": "dim n_blocks kernel_size split_ratio use_ea norm_groups dropout dysample layer_norm",
        "RCAN": "n_resgroups n_resblocks n_feats n_colors rgb_range reduction",
    }.items()
}
ARGUMENTS["DRCT"] -= {"use_checkpoint"}


@dataclass(frozen=True)
class Spelling:
    """How a framework spells a network.

    variant: architecture and what its name stands for.
    names:   argument there -> argument of the class in spandrel, where they differ.
    only:    argument there -> the value that is built in here.
    ignored: arguments that change neither the network nor its weights -> why.
    folds:   below x4 the input is folded into channels and enlarged by 4 (Real-ESRGAN's RRDBNet).
    note:    what is good to know of the result.
    """

    variant: Variant
    names: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, Value] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    folds: bool = False
    note: str = ""


_UNREAD = "not read while norm is false"
_RRDB = {"num_in_ch": "in_nc", "num_out_ch": "out_nc", "num_feat": "num_filters", "num_block": "num_blocks"}
_RRDB_SIZE = {"num_filters": 64, "num_blocks": 23}
_RCAN = {
    "num_in_ch": "n_colors",
    "num_feat": "n_feats",
    "num_group": "n_resgroups",
    "num_block": "n_resblocks",
    "squeeze_factor": "reduction",
    "img_range": "rgb_range",
}

BASICSR: dict[str, Spelling] = {
    "swinir": Spelling(Variant("SwinIR")),
    "hat": Spelling(Variant("HAT")),
    "srvggnetcompact": Spelling(Variant("Compact", {"num_feat": 64, "num_conv": 16, "act_type": "prelu"})),
    "rrdbnet": Spelling(Variant("ESRGAN", _RRDB_SIZE, scales=(1, 2, 4)), _RRDB, {"num_grow_ch": 32}, folds=True),
    "rcan": Spelling(
        Variant("RCAN", {"n_resgroups": 10, "n_resblocks": 16, "n_feats": 64, "reduction": 16}, scales=(2, 3, 4)),
        _RCAN,
        {"num_out_ch": 3, "res_scale": 1, "rgb_mean": [0.4488, 0.4371, 0.404]},
        note="weights saved by BasicSR's own RCAN have other names",
    ),
}
_IGNORED = {
    "ATD": {"use_checkpoint": "saves memory in training only"},
    "ESRGAN": {"use_pixel_unshuffle": "matters below x4 only"},
}
_ONLY = {"RealPLKSR": {"upsampler": "pixelshuffle", "in_ch": 3, "out_ch": 3}}
TRAINNER: dict[str, Spelling] = {
    name: Spelling(
        variant,
        only=_ONLY.get(variant.arch, {}),
        ignored=_IGNORED.get(variant.arch, {}),
    )
    for name, variant in REDUX.items()
} | {name: BASICSR[name] for name in ("rrdbnet", "srvggnetcompact")}
# neosr's transformers subtract 0.5 where spandrel's classes subtract the mean of DIV2K: other networks, not listed.
NEOSR: dict[str, Spelling] = {
    "compact": Spelling(REDUX["compact"]),
    "esrgan": Spelling(Variant("ESRGAN", _RRDB_SIZE, scales=(1, 2, 4)), _RRDB, {"num_grow_ch": 32}, folds=True),
    "span": Spelling(
        REDUX["spans"], only={"fast": False, "norm": False}, ignored={"img_range": _UNREAD, "rgb_mean": _UNREAD}
    ),
}


def generator(t: Translation, spellings: Mapping[str, Spelling]) -> None:
    """Translate `network_g` and list its keys; what has no equal leaves a preset of ours in its place."""
    entry = t.entry("network_g")
    if not entry:
        t.drop("network_g", "nothing is said about the network")
        t.put("network_g", dict(STAND_IN), "the option file has no network_g; choose a preset")
        return
    try:
        spelling, arguments = _community(entry, spellings, t.out["scale"])
    except NoEqualError as reason:
        t.drop_entry("network_g", str(reason))
        t.put("network_g", dict(STAND_IN), "stands in for a network without an equal; choose a preset")
        return
    variant = spelling.variant
    t.write("network_g.type", "network_g.arch", variant.arch, spelling.note)
    t.out["network_g"] = {"type": "spandrel", "arch": variant.arch, **arguments}
    for key in entry:
        path = f"network_g.{key}"
        if key in SCALES:
            t.belongs(path, "scale")
        elif key in spelling.only:
            t.always(path, "the only value the class has")
        elif key in spelling.ignored:
            t.always(path, spelling.ignored[key])
        elif key != "type":
            name = spelling.names.get(key, key)
            t.write(path, f"network_g.{name}", arguments[name])
    given = {spelling.names.get(key, key) for key in entry}
    for name in arguments:
        if name not in given:
            t.note_default(f"network_g.{name}", arguments[name], f"what {entry['type']} stands for")


def is_community(t: Translation) -> bool:
    """Whether weights of the option file's network fit the one that was written."""
    return t.out.get("network_g", {}).get("type") == "spandrel"


def _community(
    entry: Mapping[str, Value], spellings: Mapping[str, Spelling], scale: int
) -> tuple[Spelling, dict[str, Value]]:
    name = str(entry.get("type"))
    spelling = spellings.get(plain(name))
    if spelling is None:
        raise NoEqualError(f"no network like {name} is known here")
    variant = spelling.variant
    if scale not in variant.scales:
        raise NoEqualError(f"{name} is {variant.arch} of spandrel at scale {_list(variant.scales)} only")
    arguments: dict[str, Value] = dict(variant.fixed)
    for key, value in entry.items():
        name_here = spelling.names.get(key, key)
        if key == "type" or key in spelling.ignored:
            continue
        if key in SCALES:
            if value != scale:
                raise NoEqualError(f"network_g.{key} is {show(value)} but scale is {scale}")
        elif key in spelling.only:
            if value != spelling.only[key]:
                raise NoEqualError(f"{key} of {variant.arch} is always {show(spelling.only[key])} in spandrel")
        elif name_here not in ARGUMENTS[variant.arch]:
            raise NoEqualError(f"{variant.arch} of spandrel has no argument {name_here}")
        elif isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(v, Mapping) for v in value)):
            raise NoEqualError(f"{key} is a single value or a list")
        elif name_here in CHANNELS and value != 3:
            raise NoEqualError(f"networks here see RGB: {key} has to be 3")
        else:
            arguments[name_here] = value
    if spelling.folds and scale < 4:
        arguments |= {"in_nc": 3 * (4 // scale) ** 2, "shuffle_factor": 4 // scale}
    missing = [key for key in variant.open if key not in arguments]
    if missing:
        raise NoEqualError(f"{name} has another {missing[0]} in each version: give network_g.{missing[0]}")
    return spelling, arguments


def _list(items: object) -> str:
    return ", ".join(map(str, items)) if isinstance(items, tuple | list) else str(items)
