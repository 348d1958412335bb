"""The page about the models that come with the package, made from what their files say."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sr_engine.models.card import measures, rivals, scores, training_rows
from sr_engine.models.files import read_model_file
from sr_engine.models.spec import ModelSpec

_INTRO = """# The models that come along

Made by `python -m bench.publish --cards` from what the files in `sr_engine/weights/` say of themselves;
`sr-engine info --model NAME` prints the same. `sr-engine upscale` without `--model` chooses among them; with
`--model NAME`, and as `load_from` or `distill.teacher` of a configuration, any of them can be named.
"""
_NONE = "\nNone comes with this version.\n"
_PROTOCOL = """
PSNR and SSIM are of the Y channel as published tables have them (README), computed in fp32 from uint8 pictures. A test
set with noise or JPEG in its name was spoiled before it was enlarged. They are what the following prints:

    sr-engine eval --model NAME --data TEST_SET --precision fp32 [--noise S] [--jpeg Q] [--consistency] [--metric M]
"""
_LICENCES = """
## Licences

Each file carries the licence of its weights. The photographs that the networks learned from are under licences of their
own, counted in each card; some of these (GPL-2+, CC-BY-SA, Free Art) ask that works derived from a picture stay under
the same licence, and CC-BY and CC-BY-SA ask that authors are named. The files hold numbers and no picture or part of
one. Whether such numbers are derived from the pictures is a question of law that this page does not answer: who needs
certainty can train on pictures of their own with the configuration that the card names.
"""


def page(folder: Path) -> str:
    """The whole page for the model files in `folder`.

    Raises:
        ModelFileError: a file cannot be read.
    """
    files = sorted(folder.glob("*.safetensors"), key=lambda path: path.stem)
    if not files:
        return _INTRO + _NONE
    specs = {path.stem: read_model_file(path).spec for path in files}
    sizes = {path.stem: path.stat().st_size for path in files}
    parts = [_INTRO, _PROTOCOL, *(_section(name, spec, sizes[name]) for name, spec in specs.items())]
    licensed = any(isinstance(spec.training.get("data"), dict) for spec in specs.values())
    return "".join((*parts, _LICENCES if licensed else ""))


def _section(name: str, spec: ModelSpec, size: int) -> str:
    rows = [
        ("scale", str(spec.scale)),
        ("network", _network(spec)),
        ("weights", f"{spec.parameters:,} numbers, {size / 1e6:.2f} MB"),
        ("licence of the weights", spec.licence),
        *training_rows(spec),
    ]
    return f"\n## {name}\n\n" + "".join((*_scores(spec), *_table(("", ""), rows)))


def _network(spec: ModelSpec) -> str:
    shown = {key: spec.arguments[key] for key in ("preset", "width", "stages") if key in spec.arguments}
    return ", ".join((spec.architecture, *(f"{key} {value}" for key, value in shown.items())))


def _scores(spec: ModelSpec) -> Iterator[str]:
    """A table of the scores, with those of others on the same pictures where they were measured."""
    head = ("test set", "pictures", "PSNR-Y", "SSIM-Y", "PSNR-Y of others", "further measures")
    rows = [
        (
            name,
            str(score["pictures"]),
            f"**{score['psnr_y']:.2f}**",
            f"{score['ssim_y']:.4f}",
            rivals(score) or "-",
            measures(score) or "-",
        )
        for name, score in scores(spec).items()
    ]
    if rows:
        yield from _table(head, rows)
        yield "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in (head, ["---"] * len(head)))
    yield from (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)
