"""The sweep over kernel configurations behind `python -m bench.tune`."""
