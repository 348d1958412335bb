"""A headless Chromium for tests of pages, spoken to in the WebDriver protocol: nothing but its driver is needed."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DIRECT = build_opener(ProxyHandler({}))  # the driver is on this machine
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window of a browser; every method is a command of https://www.w3.org/TR/webdriver2."""

    def __init__(self, address: str, flags: Sequence[str], binary: str) -> None:
        self._base = f"{address}/session"
        chrome = {"binary": binary, "args": list(flags)}
        wanted = {"browserName": "chrome", "goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        self._base += "/" + self._call("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def open(self, page: Path) -> None:
        self._call("POST", "/url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *values: object) -> Any:
        return self._call("POST", "/execute/sync", {"script": script, "args": values})

    def click(self, selector: str) -> None:
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        self._call("POST", f"/element/{found[_ELEMENT]}/click", {})

    def keys(self, text: str) -> None:
        """Press keys one after another, wherever the focus is."""
        steps = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._perform({"type": "key", "id": "keys", "actions": steps})

    def drag(self, *points: tuple[float, float], kind: str = "mouse") -> None:
        """Press at the first point of the window, move to the others, and let go; kind: mouse, touch or pen."""
        moves = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 60} for x, y in points]
        moves[0]["duration"] = 0
        down, up = ({"type": name, "button": 0} for name in ("pointerDown", "pointerUp"))
        steps = [moves[0], down, *moves[1:], up]
        self._perform({"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": steps})

    def log(self) -> list[dict[str, Any]]:
        """What the console got since the last call, refusals of the content policy and failed requests among it."""
        return self._call("POST", "/se/log", {"type": "browser"})

    def screenshot(self) -> str:
        """A PNG in base64."""
        return self._call("GET", "/screenshot")

    def close(self) -> None:
        self._call("DELETE", "")

    def _perform(self, source: dict[str, Any]) -> None:
        self._call("POST", "/actions", {"actions": [source]})
        self._call("DELETE", "/actions")

    def _call(self, method: str, command: str, body: object = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = Request(self._base + command, content, {"Content-Type": "application/json"}, method=method)
        with _DIRECT.open(request, timeout=60) as answer:
            return json.load(answer)["value"]


@contextmanager
def browser(profile: Path, flags: Sequence[str] = ()) -> Iterator[Browser]:
    """A browser of its own for the time of a block; the test is skipped where there is none."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    environment = {**os.environ, "HOME": str(profile), "no_proxy": "*"}
    command = [driver, "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, b"")
            port = next(found[1] for line in lines if (found := re.search(rb"successfully on port (\d+)", line)))
            window = Browser(f"http://127.0.0.1:{int(port)}", [*FLAGS, f"--user-data-dir={profile}", *flags], binary)
            try:
                yield window
            finally:
                window.close()
        finally:
            process.terminate()
