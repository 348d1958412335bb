"""Pictures through a network: tiling, the upscaler, files, evaluation, comparison sheets."""
