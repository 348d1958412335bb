"""Attention between channels (transposed attention). The public door is `sr_kernels.functional.channel_attention`."""
