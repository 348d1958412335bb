"""Makes every name that a configuration can mention known."""

from importlib import import_module

ROOMS = ("sr_engine.models", "sr_engine.losses", "sr_engine.data", "sr_engine.train.schedule")


def load_all() -> None:
    """Import the rooms that register networks, losses, data sets and schedulers."""
    for room in ROOMS:
        import_module(room)
