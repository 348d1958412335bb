"""How well the output, reduced again, gives back what it was made from."""

from typing import ClassVar

from torch import Tensor, nn

from sr_engine.config import registry
from sr_engine.losses.inputs import LossInputs
from sr_engine.losses.pixel import Criterion, distance
from sr_kernels import functional as K

# Low-resolution pixels at each border that see what lies beyond the patch: the cubic reaches 2 of them.
MARGIN = 2


@registry.register("loss", "consistency")
class ConsistencyLoss(nn.Module):
    """Distance between the output, reduced by antialiased bicubic (a = -1/2), and the low-resolution picture.

    It keeps invented detail from changing what was really seen: colours and everything coarse. For pictures that were
    reduced by bicubic; after a real-world degradation it would ask for the defects back. Two low-resolution pixels at
    each border don't count where that leaves any, since a patch was reduced together with its surroundings. The
    criterion charbonnier is smooth below 1e-3.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, criterion: Criterion = "l1") -> None:
        super().__init__()
        self.criterion: Criterion = criterion

    def forward(self, inputs: LossInputs) -> Tensor:
        low = inputs.lr
        reduced = K.magic_resample(inputs.sr.float(), size=low.shape[2:], kernel="bicubic")
        rows, columns = (slice(MARGIN, -MARGIN) if n > 2 * MARGIN else slice(None) for n in low.shape[2:])
        return distance(reduced[..., rows, columns], low[..., rows, columns], self.criterion)
