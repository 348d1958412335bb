"""Results kept for the next call, up to so many bytes: the weights of a large axis take megabytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def recent(*, size: Callable[[T], int], most: int, count: int = 128) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep the results last asked for: at most `count`, and at most `most` bytes of them by `size`.

    For functions of hashable positional arguments whose results are not changed; threads may share it.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        lock = threading.Lock()
        total = 0

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            nonlocal total
            key = (args, tuple(sorted(kwargs.items())))
            with lock:
                if key in kept:
                    kept.move_to_end(key)
                    return kept[key][0]
            result = function(*args, **kwargs)
            taken = size(result)
            with lock:
                if key not in kept and taken <= most:
                    kept[key] = result, taken
                    total += taken
                while len(kept) > count or total > most:
                    total -= kept.popitem(last=False)[1][1]
            return result

        return call

    return decorate
