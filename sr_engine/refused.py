"""Number formats that the engine does not offer, and what they were measured to cost."""

# Formats that super-resolution was measured to suffer from, and by how much: as `python -m bench.precision` prints it
# at its end, word for word; tests/house/test_precision.py compares with docs/precision.md.
_REFUSED = {
    "int8": "INT8 loses 0.010 dB PSNR-Y on BSD100, up to 0.063 dB on a picture, and its steps in a smooth gradient are "
    "up to 1.76 levels of 255 (0.10 in fp32)",
    "fp8": "FP8 loses 0.051 dB PSNR-Y on BSD100, up to 0.286 dB on a picture, and its steps in a smooth gradient are "
    "up to 0.56 levels of 255 (0.10 in fp32)",
}
_INT8 = ("int8", "i8", "uint8", "u8", "qint8", "quint8", "w8a8")
_FP8 = ("fp8", "float8", "f8", "e4m3", "e5m2")  # beginnings: float8_e4m3fn and the like


def refusal(name: str) -> str | None:
    """Why the engine does not offer this precision, with the measured loss; None of one that it does or doesn't know.

    Args:
        name: in any usual spelling: INT8, uint8, fp8, FLOAT8_E4M3FN ...
    """
    plain = name.lower().replace("torch.", "").replace("-", "").replace("_", "")
    kind = "int8" if plain in _INT8 else "fp8" if plain.startswith(_FP8) else None
    return None if kind is None else f"{_REFUSED[kind]}; docs/precision.md"
