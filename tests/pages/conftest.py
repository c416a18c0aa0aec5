"""A headless Chromium before the session's Airflow."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# A browser that only ever talks to loopback.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium that the machine has: of Debian's package ``chromium``, or what ``CHROMIUM`` names."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium on PATH: install Debian's package chromium, or set CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, standalone: Any) -> Iterator[Any]:
    """A page of Airflow's, with room for a task beside its log."""
    context = browser.new_context(
        base_url=standalone.airflow_url, viewport={"width": 1100, "height": 700}, color_scheme="light"
    )
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def screenshot(tmp_path: Path) -> Any:
    """Takes a picture of a page; into the folder ``MXPIPE_SCREENSHOTS`` where it is set, as for the docs."""
    folder = Path(os.environ.get("MXPIPE_SCREENSHOTS") or tmp_path)

    def take(page: Any, name: str) -> None:
        path = folder / f"{name}.png"
        page.screenshot(path=path)
        assert path.stat().st_size < 200_000, "the documentation's pictures are small"

    return take
