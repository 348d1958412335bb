"""How good a run is: its validations, and the files they leave in its folder."""

from collections.abc import Sequence
from pathlib import Path

from sr_engine.config.schema import Config
from sr_engine.data import EvalPair, build_dataset, validation_pairs
from sr_engine.infer.evaluate import EvalReport
from sr_engine.train.checkpoint import writing
from sr_engine.train.distributed import World
from sr_engine.train.progress import Progress
from sr_engine.train.report import baseline_scores, score_table, write_model, write_sheet
from sr_engine.train.runlog import RunLog
from sr_engine.train.session import Session
from sr_engine.train.validate import Validator, save_strips


class Scores:
    """Validates the averaged weights of a stage at its scale, and shows, logs and saves what comes out.

    Args:
        config: of the stage.
        output: folder of the run.

    Raises:
        DataError: the pictures to validate with cannot be used.
    """

    def __init__(self, config: Config, output: Path, world: World, progress: Progress) -> None:
        self.config, self.output, self.world, self.progress = config, output, world, progress
        self.pairs: Sequence[EvalPair] = ()
        self.last: EvalReport | None = None
        if config.datasets.val is not None:
            val = build_dataset(config.datasets.val, scale=config.scale, role="val")
            self.pairs = validation_pairs(val, scale=config.scale)
            self.validator = Validator(self.pairs, scale=config.scale, validation=config.validation, world=world)

    def validate(self, session: Session, log: RunLog | None) -> bool:
        """Score the averaged weights; True if they are the best so far of their stage."""
        if not self.pairs:
            return False
        net = session.steps.ema.whole()
        scores, strips = self.validator(net, self.config.name)
        mean = scores.mean()
        self.last = scores
        best = session.note_validation(mean.psnr_y)
        self.progress.psnr = mean.psnr_y
        note = " (best so far)" if best else ""
        self.progress.say(f"validation at {session.iteration}: {mean.psnr_y:.3f} dB, SSIM {mean.ssim_y:.4f}{note}")
        if log is not None:
            with writing(self.output / "visualization"):
                save_strips(self.output / "visualization", session.iteration, strips)
            row = {**mean._asdict(), "best": best, "images": {s.name: s.psnr_y for s in scores.images}}
            log.validation(session.iteration, row, strips)
            if best and self.config.training.keep_best:
                write_model(self.output / "best.safetensors", net, session, scores)
        self.world.barrier()
        return best

    def finish(self, model: Path, session: Session, log: RunLog | None) -> None:
        """The model file, and how it compares."""
        net = session.steps.ema.whole()
        if self.pairs and self.last is None:
            self.last, _ = self.validator(net, self.config.name)
        if not self.world.is_main:
            return
        write_model(model, net, session, self.last)
        self.progress.say(f"finished: {model}", style="bold")
        row = {}
        if self.last is not None:
            baselines = baseline_scores(self.pairs, self.config.scale)
            self.progress.show(score_table(baselines, self.last))
            sheet = self.output / "comparison.png"
            write_sheet(sheet, net, self.pairs, self.config.scale)
            self.progress.say(f"comparison of pictures: {sheet}")
            means = {name: scores.mean().psnr_y for name, scores in baselines.items()}
            row["psnr_y"] = {**means, "ours": self.last.mean().psnr_y}
        if log is not None:
            log.event(session.iteration, "finished", **row)  # the last thing: who finds it, finds everything
            log.sync()
