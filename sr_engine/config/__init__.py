"""Floor 1: the configuration of a run as plain, validated data."""
