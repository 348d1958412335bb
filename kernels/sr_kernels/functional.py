"""The public operations: `from sr_kernels import functional as K`."""

from sr_kernels.channel_attention.api import channel_attention
from sr_kernels.content_stats.api import ContentStats, content_stats
from sr_kernels.magic_resample.api import magic_resample
from sr_kernels.window_attention.api import window_attention
from sr_kernels.window_attention.windows import Windows

__all__ = ["ContentStats", "Windows", "channel_attention", "content_stats", "magic_resample", "window_attention"]
