"""Floor 3: networks and their files. Importing this registers the networks under their configuration names."""

from sr_engine.models import community, discriminators, generator

__all__ = ["community", "discriminators", "generator"]
