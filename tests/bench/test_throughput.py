"""The training-throughput run: real iterations, the row they give, and the count of operations."""

import json

import pytest
import torch

from bench import floors, throughput

ROW = {"iterations_per_second", "patches_per_second", "megapixels_per_second", "teraflops", "share_of_matrix_rate"}


def test_a_row_for_each_preset_is_written_as_soon_as_it_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(floors, "matrix_rate", lambda *_: 1e9)
    synthetic = throughput.synthetic
    monkeypatch.setattr(throughput, "synthetic", lambda folder: synthetic(folder, count=2, side=64))
    file = tmp_path / "rows.json"
    measured = throughput.measure

    def measure(preset, *arguments):
        if preset == "tiny":
            assert [row["preset"] for row in json.loads(file.read_text())] == ["nano"]
            raise torch.OutOfMemoryError("too large")
        return measured(preset, *arguments)

    monkeypatch.setattr(throughput, "measure", measure)
    small = ["--seconds", "0.2", "--batch", "2", "--patch", "8", "--device", "cpu", "--precision", "fp32"]
    assert throughput.main([*small, "--presets", "nano", "tiny", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())
    assert row.keys() >= ROW
    assert row["patches_per_second"] == pytest.approx(2 * row["iterations_per_second"], rel=1e-3)
    assert row["megapixels_per_second"] == pytest.approx(row["patches_per_second"] * 32**2 / 1e6, rel=1e-3)
    assert row["iterations"] >= 1
    assert 0 <= row["data_wait"] <= 1
    out = capsys.readouterr().out
    assert "it/s" in out
    assert "tiny   left out: too large" in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--device", "cuda:0"], "argument --device: invalid choice: 'cuda:0'"),
        (["--presets", "nano", "minute"], "no preset named minute; presets: nano, tiny, small, base, large"),
        (["minute"], "expected KEY=VALUE, got minute"),
    ],
)
def test_bad_arguments_are_one_clear_line(words, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        throughput.main(words)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]


def test_overrides_after_presets_are_no_presets(tmp_path, monkeypatch):
    asked = []

    def measure(preset, _pictures, _device, _seconds, overrides):
        asked.append((preset, overrides))
        raise torch.OutOfMemoryError("none")

    monkeypatch.setattr(throughput, "measure", measure)
    monkeypatch.setattr(throughput, "synthetic", lambda _: tmp_path)
    words = ["--device", "cpu", "training.seed=3", "--presets", "nano", "tiny", "training.lr_g=1e-3"]
    assert throughput.main(words) == 0
    expected = ["training.seed=3", "training.lr_g=1e-3", "training.cuda_graph=false"]
    assert asked == [("nano", expected), ("tiny", expected)]


@pytest.mark.parametrize(("graph", "resets"), [("false", [0, 2]), ("true", [0])])
def test_the_peak_of_a_graph_includes_its_recording(tmp_path, monkeypatch, graph, resets):
    monkeypatch.setattr(floors, "matrix_rate", lambda *_: 1e9)
    training_run, runs, seen = throughput.training_run, [], []

    def kept(*given):
        runs.append(training_run(*given))
        return runs[-1]

    monkeypatch.setattr(throughput, "training_run", kept)
    monkeypatch.setattr(throughput, "reset_peak", lambda _: seen.append(runs[-1].session.iteration))
    pictures = throughput.synthetic(tmp_path, count=2, side=64)
    changes = ["training.batch_size=2", "training.patch_size=8", f"training.cuda_graph={graph}"]
    throughput.measure("nano", pictures, "cpu", 0.05, changes)
    assert seen == resets  # iterations that had begun


def test_operations_are_those_of_the_convolutions(tmp_path):
    config = throughput.training_config(tmp_path, "network_g={preset: nano}", "training.patch_size=16")
    dense = 3 * 6 * 24 * 24 * 9 + 3 * 24 * 9 + 24 * 48 * 9  # three convolutions a stage, stem, tail
    counted = throughput.forward_flops(config) / (2 * 16 * 16)
    assert dense <= counted < 1.1 * dense  # the rest is the upsampler


def test_without_what_training_needs_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(throughput.importlib.util, "find_spec", lambda _: None)
    assert throughput.main([]) == 0
    assert "skipped: training needs pydantic" in capsys.readouterr().out
