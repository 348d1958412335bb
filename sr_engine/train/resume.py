"""Where a run begins: anew, or at a checkpoint; and what its configuration may change there."""

from pathlib import Path
from typing import Any

from sr_engine.config.changes import changed_keys
from sr_engine.config.load import parse_config
from sr_engine.config.schema import Config
from sr_engine.errors import CheckpointError, ConfigError, ModelFileError, TrainingError
from sr_engine.models.files import RUN_FILE, read_model_file
from sr_engine.train.checkpoint import CheckpointFolder, load_checkpoint
from sr_engine.train.runlog import LOG_FILE, read_rows
from sr_engine.train.stages import stages

# What a run leaves in its folder; anything else there is the user's own and stays.
_TRACES = (RUN_FILE, LOG_FILE, "config.yml")


def find_start(output: Path, resume: str) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint a run in `output` continues from, with its path; None for a new run.

    Args:
        output: folder of the run.
        resume: "auto" = the newest checkpoint in `output` if there is one; "none" = a new run; else the path of a
            checkpoint or of a run folder.

    Raises:
        CheckpointError: the checkpoint asked for, or all there are, cannot be read.
        TrainingError: going on would overwrite results of another run.
    """
    folder = CheckpointFolder(output / "checkpoints")
    if resume == "auto":
        found = folder.load_newest()
        if found is None:
            _refuse(output, [output / RUN_FILE])
        return found
    if resume == "none":
        _refuse(output, [*folder.existing(), *(output / name for name in _TRACES)])
        return None
    source = Path(resume)
    if source.is_dir():
        inner = source / "checkpoints"
        found = CheckpointFolder(inner if inner.is_dir() else source).load_newest()
        if found is None:
            raise CheckpointError(f"{source} has no checkpoints: give the path of a .ckpt file or of a run folder.")
    else:
        found = source, load_checkpoint(source)
    if found[0].resolve().parent == folder.folder.resolve():
        _refuse(output, [path for path in folder.existing() if int(path.stem) > found[1]["iteration"]])
    else:
        _refuse(output, [*folder.existing(), *(output / name for name in _TRACES)])
    return found


def has_results(output: Path, iteration: int) -> bool:
    """Whether all that a run leaves at its end, after `iteration` iterations, is there."""
    if not (output / RUN_FILE).exists():
        return False
    try:
        made = read_model_file(output).spec.training.get("iterations")
    except ModelFileError:  # damaged: it is written anew
        return False
    told = any(row["event"] == "finished" and row["iter"] == iteration for row in read_rows(output / LOG_FILE))
    return made == iteration and told


def changes(path: Path, state: dict[str, Any], config: Config) -> list[str]:
    """One line for each key that differs from the configuration the checkpoint was made with.

    Raises:
        CheckpointError: the architecture of a network differs, or the stages up to the checkpoint.
    """
    try:
        old = parse_config(state["config"], source=str(path))
    except ConfigError:
        return ["(the checkpoint's configuration is of another version and cannot be compared)"]
    number = state.get("stage", 1)
    if number > len(stages(old)):
        raise CheckpointError(f"checkpoint {path} has no usable 'stage': delete it or use an older one.")
    was, now = stages(old)[number - 1], stages(config)[number - 1 : number]
    if not now or now[0].first != was.first or (number < now[0].count and now[0].end < state["iteration"]):
        raise CheckpointError(
            f"checkpoint {path} is at iteration {state['iteration']}, in a stage that began at {was.first}, and "
            "training.curriculum says otherwise: leave stages that are done as they were, or choose another --output."
        )
    different = changed_keys(was.config, now[0].config)
    network = [line for line in different if line.startswith(("network_g", "scale"))]
    if old.network_d is not None and config.network_d is not None:
        network += [line for line in different if line.startswith("network_d")]
    if network:
        raise CheckpointError(
            f"checkpoint {path} belongs to another network ({'; '.join(network)}): choose another --output, "
            "and give load_from to start from its weights."
        )
    return changed_keys(old, config)


def _refuse(output: Path, paths: list[Path]) -> None:
    present = [path for path in paths if path.exists()]
    if present:
        raise TrainingError(
            f"{output} holds results that this run would overwrite ({present[0].name} is one): "
            "choose another --output or move the folder away."
        )
