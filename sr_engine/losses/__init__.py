"""Losses of the generator and the discriminator; importing this package registers them."""

from sr_engine.losses import pixel

__all__ = ["pixel"]
