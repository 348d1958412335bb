"""What the fuzz tests share: how many examples, and small damage to whole files."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

# 20 takes minutes instead of seconds.
TIMES = float(os.environ.get("SR_FUZZ_EXAMPLES", "1"))

Change = Callable[[bytes], bytes]


def examples(count: int) -> settings:
    """Settings of a test with this many examples, times SR_FUZZ_EXAMPLES."""
    return settings(max_examples=max(1, round(count * TIMES)))


@st.composite
def damaged(draw: Any, contents: list[bytes], *, head: int = 1 << 30) -> bytes:
    """One of these files after one to four changes of its bytes, most of them within the first `head`."""
    content = draw(st.sampled_from(contents))
    for _ in range(draw(st.integers(1, 4))):
        content = draw(_changes(content, head))
    return content


def _changes(content: bytes, head: int) -> st.SearchStrategy[bytes]:
    """A byte, a bit, four bytes or a stretch changed; a stretch left out or repeated; the end cut off."""
    end = max(len(content) - 1, 0)
    place = st.integers(0, min(end, head)) | st.integers(0, end)
    length = st.integers(1, 16)
    words = st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"\x00\x01\x00\x00"])
    return st.one_of(
        st.builds(lambda at, new: _replaced(content, at, 1, bytes([new])), place, st.integers(0, 255)),
        st.builds(lambda at, bit: _flipped(content, at, bit), place, st.integers(0, 7)),
        st.builds(lambda at, new: _replaced(content, at, 4, new), place, words),
        st.builds(lambda at, new: _replaced(content, at, len(new), new), place, st.binary(min_size=1, max_size=16)),
        st.builds(lambda at, count: _replaced(content, at, count, b""), place, length),
        st.builds(lambda at, count: _replaced(content, at, 0, content[at : at + count]), place, length),
        st.builds(lambda at: content[:at], place),
    )


def _replaced(content: bytes, at: int, count: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + count :]


def _flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :] if content else content


# What may stand where a description expects something else.
HUGE = st.sampled_from([10**9, -(10**9), 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"), 4000, 65536, 0, -1])
VALUES = st.recursive(
    st.none() | st.booleans() | HUGE | st.integers(-2, 70) | st.floats() | st.text(max_size=4) | st.sampled_from(
        ["generator", "resampler", "spandrel", "onnx", "nano", "small", "large", "topk", "SwinIR", "unknown"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip
# Keys of the description by their path; among the arguments also those that a file need not have.
