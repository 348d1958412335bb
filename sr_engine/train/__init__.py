"""Floor 5: training runs, from a configuration to a model file: `sr_engine.train.run(config)`.

Importing this package registers the networks, losses, data sets and schedules that configurations name.
"""

import sr_engine.data
import sr_engine.losses
import sr_engine.models  # noqa: F401
from sr_engine.train.trainer import run

__all__ = ["run"]
