"""How close a picture is to its original."""

from sr_engine.metrics.fidelity import psnr_rgb, psnr_y, rgb_to_y, ssim_y

__all__ = ["psnr_rgb", "psnr_y", "rgb_to_y", "ssim_y"]
