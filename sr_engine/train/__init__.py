"""Floor 5: training runs, from a configuration to a model file."""
