"""content_stats beside the convolution of a small network (32 -> 32 channels, 3x3) on the same pixels.

They cost about as much as one such layer (on large pictures in training, less), of which the smallest generator has 18.
"""

import pytest
import torch
import torch.nn.functional as F

from sr_kernels import functional as K


@pytest.mark.parametrize("shape", [(16, 3, 48, 48), (1, 3, 180, 320), (1, 3, 512, 512)], ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
def test_content_stats(race, shape, training):
    torch.manual_seed(0)
    x = torch.rand(shape, requires_grad=training)
    small = torch.rand(1, 3, 20, 20, dtype=torch.float64)
    for actual, expected in zip(K.content_stats(small), K.content_stats(small, impl="reference"), strict=True):
        torch.testing.assert_close(actual, expected)

    def stats() -> None:
        out = K.content_stats(x, impl="torch")
        if training:
            torch.autograd.grad(out.fine.sum() + out.coarse.sum() + out.difficulty.sum(), x)

    features = torch.rand(shape[0], 32, *shape[2:], requires_grad=training)
    features = features.contiguous(memory_format=torch.channels_last)
    weight = torch.rand(32, 32, 3, 3, requires_grad=training)

    def layer() -> None:
        out = F.conv2d(features, weight, padding=1)
        if training:
            torch.autograd.grad(out.sum(), weight)

    race({"content_stats": stats, "conv 32 -> 32": layer}, ours="content_stats", tolerance=0)
