"""What the attention layers of Swin V2's kind have in common (Liu et al., arXiv 2111.09883, sections 3.2 and 3.3).

Cosines times a factor a head, which is learned as its logarithm and held below 100, and a bias of 16 times the sigmoid
of what a small network makes of relative coordinates.
"""

import math
from typing import Any

import torch
from torch import Tensor

from sr_engine.dropin.checks import widen

LARGEST = math.log(100)


def bias_table(attn: Any) -> Tensor:
    """(rows, heads)."""
    return 16 * _before_sigmoid(attn).sigmoid()


def logit_scale(attn: Any) -> Tensor:
    """(heads, 1, 1)."""
    return attn.logit_scale.clamp(max=LARGEST).exp()


def qkv_bias(attn: Any) -> Tensor | None:
    """(3C,) of a layer that holds the biases of queries and values apart; keys have none."""
    if attn.q_bias is None:
        return None
    return torch.cat([attn.q_bias, torch.zeros_like(attn.v_bias), attn.v_bias])


def excite_cosine(attn: Any) -> None:
    """A table of standard deviation 2 or so, and one head's factor above the largest allowed."""
    widen(attn.cpb_mlp[2], lambda: _before_sigmoid(attn), 0.5)
    attn.logit_scale[0] = LARGEST + 1


def _before_sigmoid(attn: Any) -> Tensor:
    return attn.cpb_mlp(attn.relative_coords_table).flatten(0, 2)
