"""Magic Kernel Sharp resampling by any ratio, and its learned, content-aware form."""
