"""Losses of the generator and the discriminator; importing this package registers them."""

from sr_engine.losses import consistency, feature_matching, gan, ms_ssim, perceptual, pixel

__all__ = ["consistency", "feature_matching", "gan", "ms_ssim", "perceptual", "pixel"]
