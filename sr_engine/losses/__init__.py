"""Losses of the generator and the discriminator; importing this package registers them."""

from sr_engine.losses import feature_matching, gan, ms_ssim, perceptual, pixel

__all__ = ["feature_matching", "gan", "ms_ssim", "perceptual", "pixel"]
