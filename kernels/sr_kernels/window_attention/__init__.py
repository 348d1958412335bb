"""Fused window attention on an unrolled map. The public door is `sr_kernels.functional.window_attention`."""
