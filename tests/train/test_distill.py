"""Distillation in a run: the teacher is heard and left alone, continued runs agree, files hold the student alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sr_engine.errors import ConfigError
from sr_engine.models.files import read_model_file, save_model
from sr_engine.models.generator import Generator
from sr_engine.train import run
from sr_engine.train import session as session_module
from sr_engine.train.checkpoint import load_checkpoint
from sr_engine.train.distributed import World
from sr_engine.train.pair import Pair
from sr_engine.train.session import Session
from sr_engine.train.steps import Steps

CPU = World(torch.device("cpu"))
NANO = "network_g={type: generator, preset: nano, width: 16, stages: 2}"
SMALL = ("training.patch_size=8", "training.total_iter=8", "datasets.val=null")
FEATURES = "distill.features={student: [0, body.1], teacher: [-2, -1]}"


def _pair(seed: int = 0) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    return Pair(torch.rand(4, 3, 8, 8, generator=generator), torch.rand(4, 3, 16, 16, generator=generator))


def _step(session: Session, it: int = 0, pair: Pair | None = None) -> dict[str, Tensor]:
    return session.steps.run(pair or _pair(it), it, lr_g=1e-3, lr_d=0.0, next_pair=_pair).values


def _weights(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def _rows(output: Path, event: str = "train") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if k not in ("it_per_s", "data_wait")} for row in rows if row["event"] == event
    ]


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_same, a, b))
    return a == b


def test_the_student_approaches_the_teacher_and_the_log_says_so(tmp_path, make_config, teacher, quiet):
    config = make_config(
        NANO,
        *SMALL,
        f"distill={{teacher: {teacher}, loss_weight: {{start_iter: 3, final_weight: 0.5, ramp: step}}}}",
        "losses.pixel.loss_weight={start_iter: 3, initial_weight: 1.0, final_weight: 0.01, ramp: step}",
        "training.total_iter=40",
        "training.optim_g={type: AdamW, lr: 3e-3}",
        "logging.print_every=1",
    )
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    rows = _rows(tmp_path / "run")
    assert all("distill" not in row["losses"] for row in rows[:3])
    values = [row["losses"]["distill"] for row in rows[3:]]
    assert all(row["weights"]["distill"] == 0.5 for row in rows[3:])
    assert sum(values[-5:]) < 0.6 * sum(values[:5])


def test_the_model_file_names_the_teacher_and_not_its_folder(tmp_path, make_config, teacher, quiet):
    config = make_config(NANO, *SMALL, f"distill={{teacher: {teacher}, confidence: 10}}")
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    model = tmp_path / "run/model.safetensors"
    noted = read_model_file(model).spec.training["distill"]
    assert noted["teacher"]["name"] == "wise.safetensors"
    assert noted["teacher"]["licence"] == "CC0-1.0"
    assert len(noted["teacher"]["sha256"]) == 64
    assert noted["confidence"] == 10
    assert str(teacher.parent).encode() not in model.read_bytes()


@pytest.mark.parametrize("more", [(), (FEATURES,)], ids=["output", "features"])
def test_the_teacher_and_the_random_numbers_are_left_alone(make_config, teacher, more):
    states = []
    for options in ((), (f"distill={{teacher: {teacher}, self_ensemble: true}}", *more)):
        session = Session(make_config(*SMALL, "network_g={type: test_plain, dropout: 0.5}", *_plain(options)), CPU)
        start = _weights(session.net_g)
        states.append((torch.get_rng_state(), start))
        if session.distillation is None:
            _step(session)
            states[-1] += (torch.get_rng_state(),)
            continue
        net = session.distillation.teacher.net
        before = _weights(net)
        _step(session)
        states[-1] += (torch.get_rng_state(),)
        assert _same(before, _weights(net))
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in net.parameters())
        assert all(parameter.device == CPU.device for parameter in net.parameters())
    assert _same(*states)


def _plain(options: tuple[str, ...]) -> list[str]:
    """The layers of the small network in place of a generator's."""
    return [option.replace("student: [0, body.1]", "student: [first, last]") for option in options]


@pytest.mark.parametrize(
    "more",
    [
        ("distill.self_ensemble=true",),
        ("distill.cache=uint8", "datasets.train.in_memory=true"),
        ("distill.cache=float16", "training.accumulate=2", FEATURES),
    ],
    ids=["direct", "cached", "features"],
)
def test_interrupted_and_continued_equals_uninterrupted(tmp_path, monkeypatch, make_config, teacher, quiet, more):
    more = ("network_g={type: test_plain}", f"distill.teacher={teacher}", "training.checkpoint_every=5", *_plain(more))
    config = make_config(*SMALL, *more)
    run(config, output=tmp_path / "a/whole", device="cpu", console=quiet)
    original = Steps.launch

    def stopped(self: Steps, pair: Pair, it: int, **options: Any) -> Any:
        if it == 6:
            raise KeyboardInterrupt
        return original(self, pair, it, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Steps, "launch", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(config, output=tmp_path / "b/parts", device="cpu", console=quiet)
    torch.rand(3)
    run(config, output=tmp_path / "b/parts", device="cpu", console=quiet)
    assert _rows(tmp_path / "a/whole") == _rows(tmp_path / "b/parts")
    names = ("a/whole", "b/parts")
    assert _same(*(load_checkpoint(tmp_path / name / "checkpoints/00000008.ckpt") for name in names))
    assert _same(*(load_file(tmp_path / name / "model.safetensors") for name in names))


def test_it_goes_with_a_discriminator(make_config, teacher):
    config = make_config(
        *SMALL, f"distill.teacher={teacher}", "training.accumulate=2", "network_g.dropout=0.0", gan=True
    )
    session = Session(config, CPU)
    assert session.distillation is not None
    heard = session.distillation.teacher(_pair().lr)
    with torch.no_grad():
        sr = session.net_g(_pair().lr)
    for kept, target in ((None, heard), (heard.flip(2), heard.flip(2))):
        pair = Pair(_pair().lr, _pair().hr, kept)
        values = session.steps.run(pair, 6, lr_g=0.0, lr_d=0.0, next_pair=_pair).values
        assert {"pixel", "gan", "feature_matching", "distill", "d_loss"} <= values.keys()
        assert values["distill"].item() == pytest.approx((sr - target).abs().mean().item(), rel=1e-5)


def test_a_teacher_of_another_scale_is_refused_before_anything_is_read(tmp_path, make_config, quiet):
    path = tmp_path / "four.safetensors"
    save_model(path, Generator(scale=4, preset="nano"))
    config = make_config(NANO, f"distill.teacher={path}", "datasets.train.path=/nowhere")
    with pytest.raises(ConfigError, match=r"distill.teacher: .*four.safetensors upscales by 4, expected 2, .*: give a"):
        run(config, output=tmp_path / "run", device="cpu", console=quiet)
    with pytest.raises(ConfigError, match=r"distill.teacher: model '.*none.pth' is neither a file nor a name"):
        Session(make_config(NANO, "distill.teacher=none.pth"), CPU)


@pytest.mark.parametrize("features", [(), (FEATURES,)], ids=["output", "features"])
def test_plain_steps_and_accumulation_make_the_same_updates(make_config, monkeypatch, teacher, features):
    options = (NANO, *SMALL, f"distill={{teacher: {teacher}, confidence: 10}}", *features)
    options += ("training.optim_g={type: SGD, lr: 0.1}", "training.grad_clip=null")
    sessions = [Session(make_config(*options, f"training.accumulate={parts}"), CPU) for parts in (1, 2)]
    monkeypatch.setattr(session_module, "obstacle", lambda *_, **__: None)
    sessions.append(Session(make_config(*options), CPU))
    assert sessions[2].steps.plain is not None
    start = _weights(sessions[0].net_g)
    given = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    values: list[dict[str, Tensor]] = []
    for it, known in enumerate((None, given, None)):  # with and without a target that was made beforehand
        values = [_step(session, it, Pair(_pair(it).lr, _pair(it).hr, known)) for session in sessions]
    # Features are measured by their own mean magnitude, which differs between parts of a batch.
    compared = sessions[::2] if features else sessions
    for session in compared[1:]:
        for name, value in _weights(session.net_g).items():
            torch.testing.assert_close(value, _weights(compared[0].net_g)[name], rtol=1e-4, atol=1e-6)
    assert not _same(start, _weights(sessions[0].net_g))
    assert values[0]["distill"].item() == pytest.approx(values[2]["distill"].item(), rel=1e-5)


@pytest.mark.parametrize("cache", ["null", "uint8"])
def test_the_dry_run_shows_the_teacher_and_its_weight(tmp_path, make_config, teacher, quiet, cache):
    config = make_config(NANO, *SMALL, f"distill={{teacher: {teacher}, loss_weight: 0.25, cache: {cache}}}")
    run(config, output=tmp_path / "run", device="cpu", console=quiet, dry_run=True)
    text = (tmp_path / "run/plan/plan.txt").read_text()
    assert "distill: the teacher is wise.safetensors (" in text
    (row,) = (line.split() for line in text.splitlines() if line.startswith("distill "))
    assert row[:4] == ["distill", "distill", "0", "constant"]
    assert row[4] == "0.25"
    assert not (tmp_path / "teacher_outputs").exists()


def test_a_teacher_of_another_project(tmp_path, make_config):
    pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")
    from sr_engine.models.community import spandrel

    torch.manual_seed(0)
    net = spandrel(
        scale=2,
        arch="SwinIR",
        embed_dim=12,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=4,
        upsampler="pixelshuffledirect",
    )
    torch.save({"params": net.state_dict()}, tmp_path / "swin.pth")
    features = "distill.features={student: [0, 1], teacher: [0, layers.1]}"
    session = Session(make_config(NANO, *SMALL, f"distill.teacher={tmp_path / 'swin.pth'}", features), CPU)
    assert session.distillation is not None
    assert session.distillation.teacher.facts["name"] == "swin.pth"
    values = _step(session)
    assert values.keys() == {"pixel", "distill", "distill_features"}
    pair = _pair()
    with torch.no_grad():
        torch.testing.assert_close(session.distillation.teacher(pair.lr), net.eval()(pair.lr), rtol=0, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("more", [(), (FEATURES,)], ids=["output", "features"])
@pytest.mark.parametrize("known", [False, True], ids=["direct", "kept"])
def test_a_recorded_training_hears_the_teacher_too(make_config, teacher, known, more):
    world = World(torch.device("cuda"))
    weights = []
    for recording in ("false", "true"):
        options = (NANO, *SMALL, f"distill={{teacher: {teacher}, self_ensemble: true, confidence: 10}}", *more)
        session = Session(make_config(*options, f"training.cuda_graph={recording}"), world)
        for it in range(8):
            lr, hr = _pair(it).lr.cuda(), _pair(it).hr.cuda()
            _step(session, it, Pair(lr, hr, hr.flip(1) if known else None))
        assert session.steps.plain is not None
        assert session.steps.plain.recorded == (recording == "true")
        weights.append(_weights(session.net_g))
    for name in weights[0]:
        torch.testing.assert_close(*(state[name] for state in weights), rtol=0, atol=1e-4)
