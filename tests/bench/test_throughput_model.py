"""The paper's arithmetic, and that its counts are those of the networks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import throughput_model as model
from bench.throughput_model import (
    Codec,
    Gpu,
    Network,
    Node,
    codec_lines,
    count,
    lines,
    measure,
    need,
    network_lines,
    read_inputs,
    table,
)
from sr_engine.models.presets import Preset, Scale

GPU = Gpu(peak=1e15, utilisation=0.2, memory=3e12)
PIXELS = 1920 * 1080
DOC = Path(__file__).parents[2] / "docs/scale.md"


def test_a_need_by_hand():
    network = Network("any", 4, macs=1e5, bytes=1e4)
    found = need(network, Codec("JPEG", 1, 0.02, 1_000_000), Codec("PNG", 4, 5.0, 25_000_000), GPU, an_hour=3600 * 100)
    seconds = PIXELS * (2e5 / 2e14 + 1e4 / 3e12)
    assert found.a_gpu == pytest.approx(1 / seconds)
    assert found.gpus == pytest.approx(100 * seconds)
    assert found.cores == pytest.approx(502)
    assert found.cores_a_gpu == pytest.approx(5.02 / seconds)
    assert found.gigabits_in == pytest.approx(0.8)
    assert found.gigabits_out == pytest.approx(20)
    assert found.terabytes_a_day == pytest.approx(216)
    assert found.nodes(Node(8, 100, 100)) == (pytest.approx(5.02), "cores")
    assert found.nodes(Node(0.01, 100, 100))[1] == "GPU"
    assert found.nodes(Node(8, 1000, 10)) == (pytest.approx(2), "network")


def test_the_counts_kept_are_those_of_the_network():
    kept = {(network.preset, network.scale): network for network in read_inputs()[1]}
    assert set(kept) == {(preset, scale) for preset in model.PRESETS for scale in model.SCALES}
    cases: tuple[tuple[Preset, Scale], ...] = (("nano", 4), ("tiny", 2))
    for preset, scale in cases:
        found = count(preset, scale)
        assert found.macs == pytest.approx(kept[preset, scale].macs, rel=1e-3)
        assert found.bytes == pytest.approx(kept[preset, scale].bytes, rel=0.05)  # operations differ between versions


def test_traffic_is_what_operations_read_and_write():
    import torch

    with model._Traffic() as traffic:
        x = torch.ones(10)
        x.view(2, 5).add_(1)  # a view moves nothing; reads x and 1, writes x
    assert traffic.values == 10 + 20


def test_the_document_shows_this_table():
    text = DOC.read_text(encoding="utf-8")
    codecs, networks, where = read_inputs()
    assert where.split(",")[0] in text
    for line in [
        *codec_lines(codecs),
        *network_lines(networks),
        *lines(table(Gpu(989e12, 0.2, 2995.8e9), 1e6), Node()),
    ]:
        assert line in text


def test_files_are_measured_as_the_engine_reads_and_writes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(model, "WIDTH", 20)
    monkeypatch.setattr(model, "HEIGHT", 12)
    for number in range(8):
        Image.fromarray(np.full((8, 8, 3), 30 * number, np.uint8)).save(tmp_path / f"{number}.png")
    found = {(codec.form, codec.scale): codec for codec in measure(sorted(tmp_path.glob("*.png")), repeats=1)}
    assert set(found) == {(form, scale) for form in model.FORMS for scale in (1, 2, 4)}
    assert all(codec.seconds > 0 and codec.bytes > 30 for codec in found.values())
