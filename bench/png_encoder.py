"""The row-by-row PNG encoder against Pillow's at level 6: seconds (best of five) and bytes, one thread.

    python -m bench.png_encoder FOLDER

takes sixteen 384 x 384 crops of photographs found there as one picture of 1536 x 1536, and one of them enlarged to that
size with Lanczos, as an upscaled picture is.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sr_engine.data.encoders.header import Header
from sr_engine.data.encoders.png import PngRows

SIDE, CROP = 1536, 384


def ours(picture: Image.Image) -> bytes:
    samples = np.asarray(picture)
    rows = PngRows(buffer := io.BytesIO(), Header(picture.width, picture.height, 3))
    for top in range(0, picture.height, 256):
        rows(samples[top : top + 256])
    rows.finish()
    return buffer.getvalue()


def pillow(picture: Image.Image) -> bytes:
    picture.save(buffer := io.BytesIO(), "PNG", compress_level=6)
    return buffer.getvalue()


def best(encode: Callable[[Image.Image], bytes], picture: Image.Image) -> tuple[float, bytes]:
    seconds, content = [], b""
    for _ in range(5):
        start = time.perf_counter()
        content = encode(picture)
        seconds.append(time.perf_counter() - start)
    return min(seconds), content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    files = sorted(parser.parse_args().folder.iterdir())
    crops = []
    for file in files[:: max(1, len(files) // 40)]:
        with Image.open(file) as picture:
            if min(picture.size) >= CROP:
                crops.append(picture.convert("RGB").crop((0, 0, CROP, CROP)))
    mosaic = Image.new("RGB", (SIDE, SIDE))
    for number, crop in enumerate(crops[:16]):
        mosaic.paste(crop, (number % 4 * CROP, number // 4 * CROP))
    enlarged = crops[0].resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    for name, picture in (("16 photographs", mosaic), ("1 photograph, enlarged", enlarged)):
        for encoder in (pillow, ours):
            seconds, content = best(encoder, picture)
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(picture))
            print(f"{name}: {encoder.__name__} {seconds:.2f} s, {len(content):,} bytes")


if __name__ == "__main__":
    main()
