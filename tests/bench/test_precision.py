"""Number formats: what rounding and banding are, that INT8 is INT8, and the page of a whole run on a tiny network."""

import re

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")

from bench import banding, formats, precision, precision_page, quantised
from bench.formats import Range
from sr_engine.infer.evaluate import EvalReport, ImageScore
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator

ROWS = (
    "fp32", "bf16", "fp16", "fp32, exported", "fp16, exported", "INT8", "INT8, first and last in fp32", "FP8",
    "FP8, first and last in fp32", "INT8, inputs and weights alone",
    "INT8, inputs and weights alone, first and last in fp32",
)  # fmt: skip


def pictures(folder, count):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (8, 9, 3), np.uint8))
        noise.resize((54, 48), Image.Resampling.BICUBIC).save(folder / f"picture{index}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network of preset nano that differs from its classical upsampler."""
    torch.manual_seed(0)
    net = Generator(scale=2, preset="nano", stages=2).eval()
    with torch.no_grad():
        net.tail.weight.normal_(0, 0.02)
    path = tmp_path_factory.mktemp("model") / "nano.safetensors"
    save_model(path, net)
    return path


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    """Page, and the sentences for the engine, of a whole run."""
    folder = tmp_path_factory.mktemp("run")
    tests, others, page = pictures(folder / "tests", 3), pictures(folder / "others", 4), folder / "precision.md"
    words = ["--model", model, "--test", f"One={tests}", "--test", f"Two={tests}", "--calibrate", others]
    words += ["--pictures", 4, "--limit", 2, "--side", 16, "--rounds", 3, "--threads", 1, "-o", page]
    files = {}
    build, threads = precision.build, torch.get_num_threads()

    def kept(*given):
        chosen = build(*given)
        files.update({path.name: onnx.load(path) for path in given[1].glob("*.onnx")})
        return chosen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "build", kept)
        assert precision.main([str(word) for word in words]) == 0
    torch.set_num_threads(threads)
    return page.read_text(encoding="utf-8"), files


def cells(page, section):
    """The lines of the table of a section, by their first cell."""
    lines = re.findall(r"^\| (.*) \|$", page.split(f"## {section}\n")[1].split("\n## ")[0], re.MULTILINE)
    return {line.split(" | ")[0]: line.split(" | ")[1:] for line in lines[1:]}


def test_the_page_has_every_format_and_where_it_comes_from(made):
    page, _ = made
    quality, bands, costs = (cells(page, title) for title in ("Quality", "Banding", "Time and size"))
    assert tuple(quality) == ROWS
    assert tuple(bands) == ("exact", *ROWS)
    assert quality["fp32"][1] == quality["fp32, exported"][1]
    for row in ROWS:
        assert len(quality[row]) == 6
        assert (costs[row][1] == "-") == (quality[row][0] == "emulated")
    losses = [float(quality[row][2]) for row in ("fp16", "INT8")]
    assert abs(losses[0]) < 0.002 < abs(losses[1])
    steps = [float(bands[row][2]) for row in ("exact", "fp32", "INT8")]
    assert steps[0] <= steps[1] < steps[2]
    assert re.search(r"python -m bench\.precision --model \S+nano\.safetensors --test One=", page)
    assert "the first 2 pictures of each only" in re.sub(r"\s+", " ", page)
    assert "from 2 pictures of others" in re.sub(r"\s+", " ", page)
    assert torch.__version__ in page
    assert "The engine offers fp32, bf16 and fp16. INT8 and FP8 are rejected" in page
    assert len(re.findall(r"^- (INT8|FP8) loses .* dB PSNR-Y on Two, up to .* dB on a picture", page, re.M)) == 2


def test_the_best_way_to_choose_ranges_is_taken(made):
    page, _ = made
    table = page.split("## Ways to choose ranges\n")[1].split("\n## ")[0]
    ways = re.findall(r"^\| (INT8|FP8|INT8, inputs and weights alone) \| (.+?) \| ([\d.]+) \| (\w*) \|$", table, re.M)
    assert len(ways) == 2 * len(quantised.CALIBRATIONS) + 2 + 2
    for kind in {way[0] for way in ways}:
        scores = [(float(score), taken) for name, _, score, taken in ways if name == kind]
        assert [taken for _, taken in scores] == ["taken"] + [""] * (len(scores) - 1)
        assert max(scores)[0] == scores[0][0]


def test_int8_files_hold_bytes_for_every_convolution_but_those_left_out(made):
    _, files = made
    whole, inner = (quantised_weights(files[name]) for name in ("int8-0-asymmetric.onnx", "int8-inner.onnx"))
    assert len(whole) == 2 + 2 * 3  # stem, two stages, tail
    assert len(inner) == len(whole) - 2
    assert all(scales == channels for channels, scales in whole)
    for activations, kind in (("asymmetric", onnx.TensorProto.UINT8), ("symmetric", onnx.TensorProto.INT8)):
        graph = files[f"int8-2-{activations}.onnx"].graph
        zeros = {item.name: item.data_type for item in graph.initializer}
        kinds = {zeros[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}
        assert kinds == {kind}


def quantised_weights(model):
    """Output channels and scales of each weight of a convolution that is stored as INT8."""
    items = {item.name: item for item in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    found = []
    for node in model.graph.node:
        maker = makers.get(node.input[1]) if node.op_type == "Conv" else None
        if maker is not None and maker.op_type == "DequantizeLinear":
            weight, scale = items[maker.input[0]], items[maker.input[1]]
            assert weight.data_type == onnx.TensorProto.INT8
            found.append((weight.dims[0], scale.dims[0]))
    return found


def test_fp8_rounds_to_three_bits_of_mantissa_and_does_not_overflow():
    x = torch.tensor([448.0, 17.0, 1.05, -1.2, 500.0, 0.0])
    assert formats.fp8_inputs(x, Range(-3.0, 448.0)).tolist() == [448.0, 16.0, 1.0, -1.25, 448.0, 0.0]
    weight = torch.stack([torch.full((1, 3, 3), 7.0), torch.full((1, 3, 3), 1e-3)])
    weight[1, 0, 0, 0] = 0.53e-3
    rounded = formats.fp8_weights(weight)
    assert torch.allclose(rounded[0], weight[0])
    assert rounded[1, 0, 0, 0].item() == pytest.approx(240 / 448 * 1e-3)  # of 224, 240, 256


def test_int8_rounds_to_the_steps_of_the_range():
    x = torch.tensor([-1.0, 0.0, 0.4, 0.6, 300.0])
    assert formats.int8_inputs(x, Range(0.0, 255.0)).tolist() == [0.0, 0.0, 0.0, 1.0, 255.0]
    below = formats.int8_inputs(torch.tensor([-5.0, 0.0, 0.5]), Range(-0.3, 1.0))
    assert below[1] == 0
    assert below.tolist() == pytest.approx([-0.3, 0.0, 0.5], abs=1.3 / 255)
    weight = torch.tensor([127.0, 1.4, -3.6]).view(1, 3, 1, 1)
    assert formats.int8_weights(weight).flatten().tolist() == [127.0, 1.0, -4.0]


def test_emulation_rounds_the_named_convolutions_and_no_others(model):
    net = formats.upscaler(model).net
    names = formats.convolutions(net)
    assert names[0] == "stem"
    assert names[-1] == "tail"
    x = np.random.default_rng(0).integers(0, 256, (12, 14, 3), np.uint8)
    ranges = formats.calibrated(net, [x])
    assert list(ranges["largest"]) == names
    assert ranges["largest"]["stem"] == pytest.approx((x.min() / 255 - 0.5, x.max() / 255 - 0.5))
    assert ranges["clipped"]["tail"].high <= ranges["largest"]["tail"].high
    rounded = formats.emulated(net, formats.inner(ranges["largest"]), formats.fp8_weights, formats.fp8_inputs)
    weights = [f"{name}.weight" for name in names]
    same = [torch.equal(net.get_parameter(one), rounded.get_parameter(one)) for one in weights]
    assert same == [True] + [False] * (len(names) - 2) + [True]
    exact = formats.emulated(net, ranges["largest"], lambda w: w, lambda x, _: x)
    with torch.no_grad():
        expected, one, other = (network(formats.tensor(x)) for network in (net, exact, rounded))
    assert torch.equal(expected, one)
    assert 1e-5 < (expected - other).abs().max() < 0.1


def test_banding_of_an_exact_ramp_and_of_one_in_steps():
    exact = banding.ideal(2)
    assert exact.rms == exact.largest == exact.back == 0
    assert exact.step == pytest.approx(banding.RISE / (banding.COLUMNS - 1) / 2)
    classical = banding.banding(Upscaler("mks2021", scale=2, device="cpu"))
    assert classical.largest < 0.005
    assert classical.step == pytest.approx(exact.step, rel=0.1)
    stairs = banding.measured((banding.exact(2) * 255 / 2).round() * 2 / 255, 2)
    assert stairs.step == pytest.approx(2)
    assert stairs.largest == pytest.approx(1, abs=0.02)
    assert stairs.levels == pytest.approx(exact.levels / 2, abs=1)
    bumpy = banding.exact(2).clone(memory_format=torch.contiguous_format)
    bumpy[..., banding.COLUMNS + 40 :] -= 3 / 255  # one step down in every row
    assert banding.measured(bumpy, 2).back == pytest.approx(1)


def test_the_worst_picture_is_that_of_the_largest_loss():
    def row(*values):
        scores = [ImageScore(f"p{index}", value, 1.0, 0.0) for index, value in enumerate(values)]
        up = Upscaler("mks2021", scale=2, device="cpu")
        return precision_page.Row(formats.Format("", "", up), banding.ideal(2), {"A": EvalReport("", 2, scores)})

    first, other = row(30.0, 31.0, 32.0), row(29.9, 30.5, 32.0)
    assert precision_page.worst_drop(other, first) == (0.5, "A p1")
    assert precision_page.drop(other, first, "A") == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--test", "Set5"], "expected NAME=DIR, got 'Set5'"),
        (["--test", "A=nowhere", "--calibrate", "nowhere"], "nowhere"),
        (["--test", "A={folder}", "--calibrate", "{folder}"], "expected at least 32 pictures, found 2"),
    ],
)
def test_bad_arguments_are_one_clear_line(words, message, model, tmp_path, capsys):
    folder = pictures(tmp_path / "few", 2)
    words = [word.format(folder=folder) for word in words]
    try:
        status = precision.main(["--model", str(model), *words, "-o", str(tmp_path / "page.md")])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in "".join(capsys.readouterr())
    assert not (tmp_path / "page.md").exists()
