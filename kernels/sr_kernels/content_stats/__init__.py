"""Per-pixel content statistics at two scales. The public door is `sr_kernels.functional.content_stats`."""
