"""Two processes that divide a network among them train as one process that has it whole."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sr_engine.cli.main import main
from sr_engine.config.load import parse_config
from sr_engine.errors import ConfigError
from sr_engine.train.checkpoint import load_checkpoint
from tests.train.test_scale import (
    CONFIG,
    GAN,
    HERE,
    OPTIM,
    arguments,
    largest_difference,
    leave_first_checkpoint,
    same,
    torchrun,
)

FSDP = "training.parallel=fsdp"
AVERAGED = ["network_g={type: generator, preset: nano, stages: 2, width: 16}", "training.ema_decay=0.9"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("fsdp")
    config = root / "config.yml"
    config.write_text(CONFIG.format(pictures=pictures, optim=OPTIM, plugin=HERE / "double.py"))
    averaged = [*AVERAGED, f'datasets.val={{type: folder, path: "{pictures}"}}']
    cases = {"plain": [], "parts": ["training.accumulate=2"], "gan": GAN, "averaged": averaged}
    for name, overrides in cases.items():
        assert main(["train", *arguments(config, root / f"whole {name}", *overrides)]) == 0
    leave_first_checkpoint(root / "whole gan", root / "from whole")
    jobs: list[dict[str, Any]] = [
        {"arguments": arguments(config, root / f"divided {name}", *overrides, FSDP)}
        for name, overrides in cases.items()
    ]
    jobs.append({"arguments": arguments(config, root / "from whole", *GAN, FSDP)})
    jobs.append({"arguments": arguments(config, root / "killed", *GAN, FSDP), "kill": [1, 13]})
    (root / "jobs.json").write_text(json.dumps(jobs))
    done = torchrun(HERE / "scale_runs.py", root / "jobs.json", restarts=1)
    assert done.returncode == 0, done.stderr[-6000:]
    leave_first_checkpoint(root / "divided gan", root / "from divided")
    assert main(["train", *arguments(config, root / "from divided", *GAN)]) == 0
    torch.set_num_threads(threads)
    return root


def _end(run: Path) -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints/00000020.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["plain", "parts", "gan"])
def test_a_divided_network_ends_with_the_weights_of_a_whole_one(root, case):
    whole, divided = _end(root / f"whole {case}"), _end(root / f"divided {case}")
    assert largest_difference(whole, divided) < 1e-5
    moments = [state["generator"]["optimizer"]["state"] for state in (whole, divided)]
    assert all(torch.allclose(moments[0][k]["exp_avg"], moments[1][k]["exp_avg"], atol=1e-5) for k in moments[0])


@pytest.mark.slow
def test_a_divided_network_of_a_killed_process_ends_the_same(root):
    assert same(_end(root / "killed"), _end(root / "divided gan"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["from whole", "from divided"])
def test_checkpoints_are_the_same_whether_divided_or_not(root, name):
    assert largest_difference(_end(root / name), _end(root / "whole gan")) < 1e-5


@pytest.mark.slow
def test_the_average_of_a_divided_network_is_validated_and_saved(root):
    scores = []
    for name in ("whole averaged", "divided averaged"):
        rows = [json.loads(line) for line in (root / name / "log.jsonl").read_text().splitlines()]
        scores.append([row["psnr_y"] for row in rows if row["event"] == "validation"])
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
    state = _end(root / "divided averaged")
    model = load_file(root / "divided averaged/model.safetensors")
    averages = state["ema"]["net"]
    assert all(torch.equal(value, model[name]) for name, value in averages.items())
    weights = state["generator"]["net"]
    assert any((weights[name] - average).abs().max() > 1e-4 for name, average in averages.items())


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("prune={ratio: 0.5}", "prune"),
        ("training.balance=grad_ratio", "training.balance"),
        ("training.compile=true", "training.compile"),
        ("training.cuda_graph=true", "training.cuda_graph"),
        ("training.precision=fp16", "precision fp16"),
    ],
)
def test_what_cannot_be_divided_is_refused(pictures, override, reason):
    text = CONFIG.format(pictures=pictures, optim=OPTIM, plugin=HERE / "double.py")
    with pytest.raises(ConfigError, match=f"training.parallel: expected ddp, or no {reason}"):
        parse_config(text, overrides=[FSDP, override, "training.total_iter=400", "network_g={type: generator}"])


def test_one_process_says_that_there_is_nothing_to_divide(tmp_path, make_config, capsys, quiet):
    from sr_engine.train.distributed import World
    from sr_engine.train.session import Session

    notes = Session(make_config(FSDP), World(torch.device("cpu"))).notes
    assert "training.parallel: fsdp has no effect: there is one process" in notes
