"""Per-pixel statistics of a picture at two scales, and the difficulty of its windows."""
