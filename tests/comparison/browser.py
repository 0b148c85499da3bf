"""A headless Chromium that opens a page behind a proxy which leads nowhere and remembers what was asked of it."""

import shutil
import socketserver
import subprocess
import threading
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    "--disable-features=OptimizationHints,MediaRouter,Translate",
    "--hide-scrollbars",
)


class _Deaf(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.server.asked.append(self.request.recv(400).decode(errors="replace").split("\r\n")[0])  # type: ignore


class Browser:
    """Chromium with a profile of its own.

    Args:
        profile: a directory.

    Attributes:
        asked: what any page, or the browser, asked of the network.
    """

    def __init__(self, profile: Path) -> None:
        self.profile = profile
        self.asked: list[str] = []

    def dom(self, page: Path, *options: str) -> str:
        """The document after its scripts have run."""
        return self._run(page, "--dump-dom", *options)

    def screenshot(self, page: Path, picture: Path, *options: str) -> Path:
        """A picture of the page."""
        self._run(page, f"--screenshot={picture}", *options)
        return picture

    def _run(self, page: Path, *options: str) -> str:
        assert CHROMIUM is not None
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Deaf) as proxy:
            proxy.asked = self.asked  # type: ignore[attr-defined]
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            address = f"--proxy-server=http://127.0.0.1:{proxy.server_address[1]}"
            own = (address, "--proxy-bypass-list=<-loopback>", f"--user-data-dir={self.profile}")
            done = subprocess.run(
                [CHROMIUM, *_QUIET, *own, "--virtual-time-budget=10000", *options, page.as_uri()],
                capture_output=True,
                text=True,
                timeout=200,
            )
            proxy.shutdown()
        assert done.returncode == 0, done.stderr
        return done.stdout
