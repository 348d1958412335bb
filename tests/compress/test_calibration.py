"""Pictures are held out, crops fit together, and costs are those of the layers."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sr_engine.compress.calibration import crops, pictures
from sr_engine.compress.measure import _own_operations, inference_copy, latencies, macs
from sr_engine.compress.report import Cost, PruneReport
from sr_engine.data import EvalPair
from sr_engine.errors import DataError
from sr_engine.layers.attention import WindowAttention
from sr_engine.models.generator import Generator
from tests.compress.networks import NETWORKS


def folder_of(path, count: int):
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{index}.png")
    return path


@pytest.mark.parametrize(("count", "held"), [(2, ["1"]), (3, ["2"]), (4, ["3"]), (9, ["3", "7"])])
def test_every_fourth_picture_is_held_out(tmp_path, count: int, held: list[str]) -> None:
    found = pictures(folder_of(tmp_path, count), scale=2)
    assert [pair.name for pair in found.held_out] == held
    assert not {pair.name for pair in found.measured} & set(held)
    assert len(found.measured) + len(found.held_out) == count


def test_one_picture_is_too_few(tmp_path) -> None:
    with pytest.raises(DataError, match="expected at least two"):
        pictures(folder_of(tmp_path, 1), scale=2)


def test_crops_belong_together_and_spread_over_the_picture() -> None:
    rows, columns = np.mgrid[:100, :60].astype(np.uint8)
    low = np.stack([rows, columns, rows], axis=2)
    pairs = [
        EvalPair("a", low, low.repeat(2, 0).repeat(2, 1)),
        EvalPair("b", low[:60], low[:60].repeat(2, 0).repeat(2, 1)),
    ]
    batches = list(crops(pairs, scale=2, count=12))
    assert [len(lr) for lr, _ in batches] == [8, 4]
    corners = [tuple(int(255 * value) for value in lr[k, :2, 0, 0]) for lr, _ in batches for k in range(len(lr))]
    assert len(set(corners[:6])) == 6
    assert {corners[0], corners[5]} == {(0, 0), (52, 12)}
    for lr, hr in batches:
        assert lr.shape[2:] == (48, 48)
        assert torch.equal(hr, lr.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_macs_follow_the_layers() -> None:
    nets = (Generator(scale=4, preset="tiny", stages=1, inner=inner) for inner in (None, [[8, 16]]))
    whole, smaller = map(inference_copy, nets)
    fewer = 9 * (32 * 32 * 3 - 32 * 8 - 8 * 16 - 16 * 32)
    assert macs(whole, 4) - macs(smaller, 4) == fewer * 320 * 180


def test_macs_of_every_kind_of_part() -> None:
    counts = [macs(inference_copy(Generator(scale=2, **arguments)), 2) for arguments in NETWORKS.values()]  # pyright: ignore
    assert min(counts) > 0


def test_attention_counts() -> None:
    layer = WindowAttention(8, heads=2, window=4, head_dim=3)
    with FlopCounterMode(display=False, custom_mapping=_own_operations()) as counter, torch.no_grad():
        layer(torch.rand(2, 8, 8, 12))
    tokens = 2 * 8 * 12
    assert counter.get_total_flops() == 2 * tokens * (8 * 18 + 2 * 16 * 6 + 6 * 8)


def test_latencies_and_the_copy_they_are_measured_on() -> None:
    net = Generator(scale=2, **{**NETWORKS["dense"], "stages": 1}).train()  # pyright: ignore
    copy = inference_copy(net)
    assert not copy.training
    assert net.training
    assert isinstance(copy.get_submodule("body.0.convs.0"), nn.Conv2d)
    assert not isinstance(net.get_submodule("body.0.convs.0"), nn.Conv2d)
    first, second = latencies([copy, copy], (8, 8), seconds=0)
    assert first > 0
    assert second > 0


def test_the_report() -> None:
    before, after = Cost(1000, 4_000_000_000, 8.0, float("inf")), Cost(650, 3_000_000_000, 6.0, 30.25)
    sizes = {"body.0.inner0": (32, 24), "body.0.inner1": (32, 16), "width": (32, 32)}
    report = PruneReport("m", "f", "l1", 0.35, before, after, sizes, "here", "two pictures")
    lines = [" ".join(line.split()) for line in report.lines()]
    assert "parameters 1,000 650 -35.0 %" in lines
    assert "latency (ms) 8.0 6.0 -25.0 %" in lines
    assert "stage 1 inner 32 32 24 16" in lines
    assert "ratio asked 0.35, reached 0.350, by l1" in lines
    assert '"psnr_y": null' in report.to_json()
