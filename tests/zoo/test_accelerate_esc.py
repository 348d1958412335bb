"""`accelerate` on a small network whose attention is laid out as ESC's (github.com/dslisleedh/ESC) is."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.dropin import accelerate
from tests.zoo.networks import check_network

DIM, HEADS, WINDOW = 20, 2, 8


def places(query: Any, key: Any, window: int) -> Any:
    """Row of the table: where the key lies, seen from the query."""
    rows = key // window - query // window + window - 1
    return rows * (2 * window - 1) + key % window - query % window + window - 1


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v


def attend_flexibly(q: Tensor, k: Tensor, v: Tensor, score_mod: Any) -> Tensor:
    """Stands in for FlexAttention, whose gradients a CPU does not have."""
    head, token = torch.arange(q.shape[1])[:, None, None], torch.arange(q.shape[2])
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return score_mod(scores, None, head, token[:, None], token).softmax(-1) @ v


def score_mod_of(table: Tensor, window: int):
    def score_mod(score, _batch, head, query, key):
        return score + table[head, places(query, key, window)]

    return score_mod


class WindowAttention(nn.Module):
    """Its names: to_qkv, to_out, relative_position_bias, window_size, num_heads, attn_func, attn_type, and rpe_idxs
    (one line for each head, query and key) or get_rpe."""

    def __init__(self, attn_type: str):
        super().__init__()
        self.window_size, self.num_heads, self.attn_type = (WINDOW, WINDOW), HEADS, attn_type
        self.to_qkv, self.to_out = nn.Conv2d(DIM, 3 * DIM, 1), nn.Conv2d(DIM, DIM, 1)
        self.relative_position_bias = nn.Parameter(torch.randn(HEADS, (2 * WINDOW - 1) ** 2))
        self.attn_func: Any = attend_flexibly if attn_type == "Flex" else attend
        if attn_type == "Flex":
            self.get_rpe: Any = score_mod_of(self.relative_position_bias, WINDOW)
        else:
            tokens = torch.arange(WINDOW**2)
            index = places(tokens[:, None], tokens[None], WINDOW)
            head = torch.arange(HEADS).repeat_interleave(WINDOW**4)
            self.rpe_idxs = torch.stack([head, index.flatten().repeat(HEADS)], 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % WINDOW, 0, -height % WINDOW), mode="reflect")
        batch, _, rows, columns = x.shape
        cut = (batch, 3, HEADS, DIM // HEADS, rows // WINDOW, WINDOW, columns // WINDOW, WINDOW)
        q, k, v = self.to_qkv(x).view(cut).permute(1, 0, 4, 6, 2, 5, 7, 3).flatten(5, 6).flatten(1, 3)
        if self.attn_type == "Flex":
            out = self.attn_func(q, k, v, score_mod=self.get_rpe)
        else:
            bias = self.relative_position_bias[self.rpe_idxs[:, 0], self.rpe_idxs[:, 1]]
            out = self.attn_func(q, k, v, bias.view(HEADS, WINDOW**2, WINDOW**2))
        out = out.view(batch, *cut[4::2], HEADS, WINDOW, WINDOW, -1).permute(0, 3, 6, 1, 4, 2, 5)
        return self.to_out(out.reshape(batch, DIM, rows, columns)[:, :, :height, :width])


class Network(nn.Module):
    def __init__(self, attn_type: str = "Naive"):
        super().__init__()
        self.layers: Any
        self.first, self.last = nn.Conv2d(3, DIM, 3, padding=1), nn.Conv2d(DIM, 12, 3, padding=1)
        self.layers = nn.ModuleList(WindowAttention(attn_type) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = x + layer(x)
        return F.pixel_shuffle(self.last(x), 2)


def excite(network: Network) -> None:
    with torch.no_grad():
        for layer in network.layers:
            layer.relative_position_bias.normal_(0, 1.5)


@pytest.mark.parametrize("attn_type", ["Naive", "Flex"])
def test_esc(attn_type):
    check_network(Network(attn_type), 2, [(16, 16), (24, 16), (13, 19), (7, 9)], excite=excite)


def test_another_bias_index_is_left_alone():
    network = Network()
    index = network.layers[1].rpe_idxs
    index[:, 1] = index[:, 1].view(HEADS, WINDOW**2, -1).transpose(1, 2).flatten()
    _, report = accelerate(network)
    assert [layer.name for layer in report.left] == ["layers.1"]
    assert report.left[0].reason == "its bias index follows another rule"


def test_a_score_mod_about_another_table_is_left_alone():
    _, report = accelerate(copy.deepcopy(Network("Flex")))
    assert not report.swapped
    assert "another table" in (report.left[0].reason or "")
