"""Floor 3: pictures, how they are degraded, and the endless, reproducible stream of training pairs made from them.

Importing this package registers the data sets `folder`, `paired`, `list` and `demo`.
"""

from sr_engine.data import demo as _demo  # noqa: F401  registers its data set
from sr_engine.data.build import PictureSet, build_dataset, count_pictures
from sr_engine.data.loader import Batch, BatchIterator, train_loader
from sr_engine.data.stream import Sample, TrainStream
from sr_engine.data.targets import TargetMemory
from sr_engine.data.validation import EvalPair, preview_pairs, validation_pairs

__all__ = [
    "Batch",
    "BatchIterator",
    "EvalPair",
    "PictureSet",
    "Sample",
    "TargetMemory",
    "TrainStream",
    "build_dataset",
    "count_pictures",
    "preview_pairs",
    "train_loader",
    "validation_pairs",
]
