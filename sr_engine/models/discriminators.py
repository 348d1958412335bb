"""Discriminators: a logit for every place of a picture, and named features for feature matching."""

from typing import NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from sr_engine.config import registry

SLOPE = 0.2  # of LeakyReLU, below 0


class DiscriminatorOutput(NamedTuple):
    """Logits (B,1,h,w) in fp32, and activated features by name in order of depth, logits not among them."""

    logits: Tensor
    features: dict[str, Tensor]


class SpectralNormConv2d(nn.Conv2d):
    """A convolution whose weight, as a matrix (out, in*kh*kw), is divided by its largest singular value.

    One step of power iteration a training forward (Miyato et al. 2018, algorithm 1), from the vector kept in `u`. It
    runs in fp32 under autocast too: in bf16 the estimate stalls at the third digit.
    """

    u: Tensor

    def __init__(self, cin: int, cout: int, kernel_size: int, *, stride: int = 1, padding: int = 1) -> None:
        super().__init__(cin, cout, kernel_size, stride, padding, bias=False)
        self.register_buffer("u", F.normalize(torch.randn(cout), dim=0))
        with torch.no_grad():
            for _ in range(15):
                self.u.copy_(self._step()[0])

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            weight = self.weight / self._sigma()
        return self._conv_forward(input, weight, None)

    def _sigma(self) -> Tensor:
        with torch.no_grad():
            u, v = self._step()
            if self.training:
                self.u.copy_(u)
        return torch.dot(u, torch.mv(self.weight.flatten(1), v))

    def _step(self) -> tuple[Tensor, Tensor]:
        """Next left and right singular vectors; new tensors, so that graphs of earlier passes stay valid."""
        matrix = self.weight.flatten(1)
        v = F.normalize(torch.mv(matrix.t(), self.u), dim=0)
        return F.normalize(torch.mv(matrix, v), dim=0), v


def _conv(cin: int, cout: int, kernel_size: int, *, stride: int = 1, spectral_norm: bool) -> nn.Conv2d:
    if spectral_norm:
        return SpectralNormConv2d(cin, cout, kernel_size, stride=stride)
    return nn.Conv2d(cin, cout, kernel_size, stride, padding=1)


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


@registry.register("network_d", "unet")
class UNetDiscriminator(nn.Module):
    """U-Net with a logit per pixel (Real-ESRGAN, Wang et al. 2021): 4.4 million weights at width 64.

    Args:
        width: channels at full resolution; 2, 4 and 8 times as many at 1/2, 1/4 and 1/8.
        spectral_norm: on all convolutions but the first and the last.

    Input (B,3,H,W) in [0,1] of any size from 1x1; sides are repeated at their end up to a multiple of 8 and logits
    (B,1,H,W) and features cropped back. Features: conv0, down1, down2, down3, up1, up2, up3 (before the skip is added)
    and head, with sides H, H/2, H/4, H/8, H/4, H/2, H, H, rounded up.
    """

    feature_names = ("conv0", "down1", "down2", "down3", "up1", "up2", "up3", "head")

    def __init__(self, *, width: PositiveInt = 64, spectral_norm: bool = True) -> None:
        super().__init__()
        w, sn = width, spectral_norm
        self.conv0 = nn.Conv2d(3, w, 3, padding=1)
        self.down1 = _conv(w, 2 * w, 4, stride=2, spectral_norm=sn)
        self.down2 = _conv(2 * w, 4 * w, 4, stride=2, spectral_norm=sn)
        self.down3 = _conv(4 * w, 8 * w, 4, stride=2, spectral_norm=sn)
        self.up1 = _conv(8 * w, 4 * w, 3, spectral_norm=sn)
        self.up2 = _conv(4 * w, 2 * w, 3, spectral_norm=sn)
        self.up3 = _conv(2 * w, w, 3, spectral_norm=sn)
        self.neck = _conv(w, w, 3, spectral_norm=sn)
        self.head = _conv(w, w, 3, spectral_norm=sn)
        self.logits = nn.Conv2d(w, 1, 3, padding=1)

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        height, width = x.shape[-2:]
        x = _pad(x, -height % 8, -width % 8)
        conv0 = _activate(self.conv0(x))
        down1 = _activate(self.down1(conv0))
        down2 = _activate(self.down2(down1))
        down3 = _activate(self.down3(down2))
        up1 = _activate(self.up1(_double(down3)))
        up2 = _activate(self.up2(_double(up1 + down2)))
        up3 = _activate(self.up3(_double(up2 + down1)))
        head = _activate(self.head(_activate(self.neck(up3 + conv0))))
        logits = _in_fp32(self.logits, head)
        features = (conv0, down1, down2, down3, up1, up2, up3, head)
        steps = (1, 2, 4, 8, 4, 2, 1, 1)
        cropped = [f[..., : -(-height // s), : -(-width // s)] for f, s in zip(features, steps, strict=True)]
        return DiscriminatorOutput(logits[..., :height, :width], dict(zip(self.feature_names, cropped, strict=True)))


@registry.register("network_d", "patchgan")
class PatchGANDiscriminator(nn.Module):
    """PatchGAN (pix2pix, Isola et al. 2017): a logit per overlapping patch, 70x70 pixels at 3 layers.

    Args:
        width: channels of the first layer; they double with each up to 8 times as many.
        layers: convolutions of stride 2.
        spectral_norm: on all convolutions but the first and the last; there is no batch norm, so that a picture's
            logits don't depend on its neighbours in the batch.

    Input (B,3,H,W) in [0,1] of any size from 1x1; sides below 3 * 2^layers are repeated at their end up to it. Logits
    are (B,1,h,w) with h = floor(H / 2^layers) - 2. Features: conv0, down1 ... down<layers - 1>, head.
    """

    def __init__(self, *, width: PositiveInt = 64, layers: PositiveInt = 3, spectral_norm: bool = True) -> None:
        super().__init__()
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        self.feature_names = ("conv0", *(f"down{i}" for i in range(1, layers)), "head")
        self.smallest = 3 * 2**layers
        stages: dict[str, nn.Module] = {"conv0": nn.Conv2d(3, width, 4, 2, padding=1)}
        for i in range(1, layers):
            stages[f"down{i}"] = _conv(widths[i - 1], widths[i], 4, stride=2, spectral_norm=spectral_norm)
        stages["head"] = _conv(widths[-2], widths[-1], 4, spectral_norm=spectral_norm)
        self.stages = nn.ModuleDict(stages)
        self.logits = nn.Conv2d(widths[-1], 1, 4, padding=1)

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        height, width = x.shape[-2:]
        x = _pad(x, max(0, self.smallest - height), max(0, self.smallest - width))
        features: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            x = features[name] = _activate(stage(x))
        return DiscriminatorOutput(_in_fp32(self.logits, x), features)


def _in_fp32(conv: nn.Conv2d, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return conv(x.float())


def _pad(x: Tensor, bottom: int, right: int) -> Tensor:
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
