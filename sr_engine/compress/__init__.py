"""Floor 4: structured pruning. A network becomes a physically smaller one that trains, saves and runs like any other.

`importance` scores channels and heads, `choose` says what stays for a share of parameters, `cut_network` makes the
smaller network, and `cut_state` cuts an average or an optimiser's moments alike.
"""

from sr_engine.compress.axis import Axis, Place
from sr_engine.compress.choose import Cut, check_ratio, choose
from sr_engine.compress.cut import cut_network, cut_state
from sr_engine.compress.groups import axes
from sr_engine.compress.importance import check_criterion, importance
from sr_engine.errors import CompressError

__all__ = [
    "Axis",
    "CompressError",
    "Cut",
    "Place",
    "axes",
    "check_criterion",
    "check_ratio",
    "choose",
    "cut_network",
    "cut_state",
    "importance",
]
