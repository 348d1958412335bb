"""Fused operations for super-resolution. Use `from sr_kernels import functional as K`.

This file re-exports nothing: a function named as the module beside it would hide that module.
"""
