"""A real Chromium without a screen, which is driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil

PROGRAMS = ("chromium", "google-chrome")
START_S = 120.0
ANSWER_S = 120.0
"""Seconds that the browser has to start, and to answer: on a busy machine it takes long."""
PAGE_CHANGED = ("Inspected target navigated", "Execution context was destroyed", "Cannot find context")
"""The answers of the browser where the page that was asked has just given way to the next one."""


class ProtocolError(AssertionError):
    """The browser refused what it was asked for."""


class Browser:
    """One page of a Chromium with a profile of its own, which ends with it.

    Args:
        width: of the page, in pixels.
        height: of the page, in pixels.
    """

    def __init__(self, width: int = 1400, height: int = 900) -> None:
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        assert program, f"found none of {PROGRAMS} on the PATH; `make services` installs one"
        self._folder = Path(tempfile.mkdtemp(prefix="browser"))
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._stack = contextlib.AsyncExitStack()
        arguments = [
            "--headless=new",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
            f"--window-size={width},{height}",
            f"--user-data-dir={self._folder}",
            *(["--no-sandbox"] if os.getuid() == 0 else []),
        ]
        self._log = self._folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([program, *arguments, "about:blank"], stdout=log, stderr=log)
        try:
            self._loop.run_until_complete(self._connect())
            self._call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
        except BaseException:
            self.close()
            raise

    def open(self, url: str) -> None:
        """Go to a page; what it shows comes later."""
        self._call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of an expression of JavaScript in the page; where the page changes meanwhile, in the next one."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                found = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
                break
            except ProtocolError as error:
                if not any(words in str(error) for words in PAGE_CHANGED) or time.monotonic() > deadline:
                    raise
        assert "exceptionDetails" not in found, f"{script}: {found['exceptionDetails']}"
        return found["result"].get("value")

    @property
    def text(self) -> str:
        """The text that a reader sees of the page."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def type(self, text: str) -> None:
        """Type a text into the field that has the focus."""
        self._call("Input.insertText", text=text)

    def take_picture(self, path: Path) -> None:
        """Write what the page shows to a PNG file."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser, and leave nothing behind."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.kill()
        self._process.wait()
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _connect(self) -> None:
        """Open a connection to the page; the browser writes into its profile on which port it listens."""
        port_file, deadline = self._folder / "DevToolsActivePort", time.monotonic() + START_S
        while not port_file.exists() or not port_file.read_text().strip():
            assert self._process.poll() is None, f"the browser has ended: {self._log.read_text()}"
            assert time.monotonic() < deadline, f"the browser does not start: {self._log.read_text()}"
            await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        async with session.get(f"http://127.0.0.1:{port}/json") as answer:
            (page,) = [target for target in await answer.json() if target["type"] == "page"]
        self._socket = await self._stack.enter_async_context(
            session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        )

    def _call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol; returns its result."""
        return self._loop.run_until_complete(asyncio.wait_for(self._exchange(method, parameters), ANSWER_S))

    async def _exchange(self, method: str, parameters: dict[str, Any]) -> Any:
        number = next(self._numbers)
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == number:  # the others are events
                if "error" in message:
                    raise ProtocolError(f"{method}: {message['error']}")
                return message["result"]
