"""Python files that register more networks, losses, data sets, optimisers and schedulers."""

import hashlib
import importlib.util
import sys
from pathlib import Path

from sr_engine.errors import ConfigError


def import_plugin(path: Path) -> None:
    """Run a Python file once in this process; what it registers can then be named in configurations.

    Raises:
        ConfigError: the file is missing or fails.
    """
    try:
        path, there = path.resolve(), path.is_file()
    except OSError as error:
        raise ConfigError(f"expected a Python file, got '{path}', which cannot be read ({error.strerror})") from None
    name = f"sr_engine_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if not there or spec is None or spec.loader is None:
        raise ConfigError(f"expected a Python file, got '{path}', which does not exist or does not end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(
            f"expected a plugin that can be imported, but '{path}' raised {type(error).__name__}: {error}"
        ) from error
