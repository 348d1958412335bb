"""Networks of other projects: trained here, read by spandrel in a fresh process."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import safe_open

from sr_engine.config.load import dump_config, load_config
from sr_engine.errors import CheckpointError, ConfigError, ModelFileError
from sr_engine.models.community import spandrel
from sr_engine.models.files import load_model, read_model_file
from sr_engine.train import run

pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")

ARGUMENTS: dict[str, Any] = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 4, "img_size": 12}
ARGUMENTS |= {"mlp_ratio": 2.0, "upsampler": "pixelshuffledirect"}
SWINIR = "network_g={type: spandrel, arch: SwinIR, embed_dim: 12, depths: [2], num_heads: [2], window_size: 4, "
SWINIR += "img_size: 12, mlp_ratio: 2.0, upsampler: pixelshuffledirect}"
SHORT = ("training.total_iter=3", "training.batch_size=2", "datasets.val=null", "training.ema_decay=0.5")


def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=200)


def text(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A file as BasicSR writes them, of a network with other arguments than the defaults."""
    torch.manual_seed(3)
    net = spandrel(scale=2, arch="SwinIR", **ARGUMENTS).net
    torch.save({"params": net.state_dict(), "params_ema": net.state_dict()}, tmp_path / "2x_swinir.pth")
    return tmp_path / "2x_swinir.pth"


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_model_file(path).state


def test_it_trains_and_spandrel_reads_the_result_in_a_fresh_process(tmp_path, make_config):
    shown = console()
    config = make_config(SWINIR, *SHORT[:2], "training.ema_decay=0.5", "validation.save_images=1")
    run(config, output=tmp_path / "run", device="cpu", console=shown)
    assert load_config(tmp_path / "run/config.yml") == config
    assert "accelerate: 2 of 2 attention layers swapped" in text(shown)
    assert "spandrel will read" not in text(shown)

    model = tmp_path / "run/model.safetensors"
    original = spandrel(scale=2, arch="SwinIR", **ARGUMENTS).net.state_dict()
    with safe_open(model, framework="pt") as file:
        assert list(file.keys()) == sorted(original)
    checkpoint = torch.load(tmp_path / "run/checkpoints/00000003.ckpt", weights_only=True)
    assert list(checkpoint["generator"]["net"]) == list(original)

    x = torch.rand(1, 3, 17, 22)
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import sys, torch, spandrel\n"
        "net = spandrel.ModelLoader().load_from_file(sys.argv[1])\n"
        "torch.save(net(torch.load(sys.argv[2])).clone(), sys.argv[3])\n"
        "assert 'sr_engine' not in sys.modules"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(model), str(tmp_path / "x.pt"), str(tmp_path / "y.pt")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        torch.testing.assert_close(load_model(model)(x), torch.load(tmp_path / "y.pt"), rtol=0, atol=1e-6)


def test_resumed_equals_uninterrupted(tmp_path, make_config, quiet):
    config = make_config(SWINIR, *SHORT, "training.checkpoint_every=1")
    run(config, output=tmp_path / "whole", device="cpu", console=quiet)
    old = tmp_path / "whole/checkpoints/00000001.ckpt"
    run(config, output=tmp_path / "parts", resume=str(old), device="cpu", console=quiet)
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "parts/model.safetensors").read_bytes()
    other = make_config(SWINIR.replace("12,", "24,", 1), *SHORT)
    with pytest.raises(CheckpointError, match="another network"):
        run(other, output=tmp_path / "new", resume=str(old), device="cpu", console=quiet)


def test_what_is_saved_does_not_depend_on_acceleration(tmp_path, make_config, quiet):
    shown = console()
    config = make_config(SWINIR, *SHORT, "training.checkpoint_every=1", "training.accelerate=false")
    run(config, output=tmp_path / "plain", device="cpu", console=shown)
    assert "attention layers" not in text(shown)
    run(make_config(SWINIR, *SHORT), output=tmp_path / "fast", device="cpu", console=quiet)
    plain, fast = weights(tmp_path / "plain"), weights(tmp_path / "fast")
    assert list(plain) == list(fast)
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=0, atol=2e-3)
    changed = make_config(SWINIR, *SHORT)  # a run begun without it goes on with it
    old = tmp_path / "plain/checkpoints/00000002.ckpt"
    run(changed, output=tmp_path / "mixed", resume=str(old), device="cpu", console=quiet)
    torch.testing.assert_close(
        weights(tmp_path / "mixed")["conv_first.bias"], plain["conv_first.bias"], rtol=0, atol=1e-3
    )


def test_a_file_alone_says_the_network(tmp_path, make_config, pretrained):
    shown = console()
    config = make_config("network_g={type: spandrel}", f"load_from={pretrained}", *SHORT, "training.optim_g.lr=1e-9")
    run(config, output=tmp_path / "a", device="cpu", console=shown)
    arguments = load_config(tmp_path / "a/config.yml").network_g.arguments
    assert arguments | {"arch": "SwinIR", "upscale": 2, **ARGUMENTS} == arguments
    assert "weights taken over" in text(shown)
    before = torch.load(pretrained)["params_ema"]
    for name, value in weights(tmp_path / "a").items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-6)

    pretrained.unlink()  # a continued run has it all in its checkpoint
    longer = config.model_copy(update={"training": config.training.model_copy(update={"total_iter": 4})})
    run(longer, output=tmp_path / "a", device="cpu", console=shown)
    assert read_model_file(tmp_path / "a").spec.training["iterations"] == 4


def test_a_run_of_ours_says_the_network_too(tmp_path, make_config, quiet):
    run(make_config(SWINIR, *SHORT), output=tmp_path / "a", device="cpu", console=quiet)
    again = make_config("network_g={type: spandrel}", f"load_from={tmp_path / 'a'}", *SHORT)
    run(again, output=tmp_path / "b", device="cpu", console=quiet)
    assert read_model_file(tmp_path / "b").spec.arguments == read_model_file(tmp_path / "a").spec.arguments


def test_files_that_do_not_fit(tmp_path, make_config, pretrained, quiet):
    wider = make_config(SWINIR.replace("mlp_ratio: 2.0", "mlp_ratio: 3.0"), f"load_from={pretrained}", *SHORT)
    with pytest.raises(ModelFileError, match=r"does not fit the network \(SwinIR\): 6 missing .*mlp\.fc1\.weight"):
        run(wider, output=tmp_path / "a", device="cpu", console=quiet)
    shown = console()
    lenient = wider.model_copy(update={"strict_load_g": False})
    run(lenient, output=tmp_path / "a", device="cpu", console=shown)
    assert "6 not in the source, left as initialised: layers.0.residual_group.blocks.0.mlp.fc1.weight" in text(shown)
    with pytest.raises(ModelFileError, match="no weights under param_key 'ema'"):
        run(lenient.model_copy(update={"param_key_g": "ema"}), output=tmp_path / "b", device="cpu", console=quiet)
    other = make_config("network_g={type: spandrel}", "scale=3", f"load_from={pretrained}", *SHORT)
    with pytest.raises(ConfigError, match=r"upscales by 2, the scale of the configuration is 3"):
        run(other, output=tmp_path / "c", device="cpu", console=quiet)


def test_the_dry_run_shows_what_would_be_swapped(tmp_path, make_config):
    shown = console()
    config = make_config(SWINIR.replace("mlp_ratio", "img_range: 255.0, mlp_ratio"), *SHORT)
    run(config, output=tmp_path, dry_run=True, device="cpu", console=shown)
    assert "attention layers swapped" in text(shown)
    assert "spandrel will read model.safetensors with other arguments (img_range 1.0 for 255.0)" in text(shown)
    assert load_config(tmp_path / "plan/config.yml") == config


def test_it_is_trained_with_a_discriminator_and_balanced(tmp_path, make_config, quiet):
    config = make_config(
        "network_g={type: spandrel, arch: compact, num_feat: 4, num_conv: 1}",
        *SHORT,
        "training.balance=grad_ratio",
        "training.total_iter=6",
        gan=True,
    )
    run(config, output=tmp_path, device="cpu", console=quiet)
    assert load_model(tmp_path).eval()(torch.rand(1, 3, 4, 5)).shape == (1, 3, 8, 10)


@pytest.mark.slow
def test_two_processes_train_a_network_with_weights_that_no_gradient_reaches(tmp_path, make_config):
    span = "network_g={type: spandrel, arch: SPAN, num_in_ch: 3, num_out_ch: 3, feature_channels: 4}"
    config = make_config(span, *SHORT)
    (tmp_path / "x.yml").write_text(dump_config(config))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "sr_engine"]
    command += ["train", str(tmp_path / "x.yml"), "--output", str(tmp_path / "run"), "--device", "cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert read_model_file(tmp_path / "run").spec.training["iterations"] == 3
