"""In a real browser: a slider of a notebook changes its picture, a click sorts the cut-outs."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from psflib import products
from psflib.report.gallery import gallery_page

pytest_plugins = ["tests.output_folder"]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
WAIT = 90_000  # ms; a cold kernel compiles loops on a busy machine
PICTURE = "img.widget-image"
KERNEL_IS_IDLE = (
    "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
)

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def jupyterlab(folder, output):
    """JupyterLab on localhost serving `folder`; yields (address, token)."""
    pytest.importorskip("jupyterlab", reason="the notebooks extra is not installed")
    port, token = free_port(), secrets.token_hex(16)
    home = folder / "home"
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
        f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}", "--allow-root",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
    ]  # fmt: skip
    environment = {**os.environ, "PSFLIB_OUTPUT": str(output), "HOME": str(home)}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api?token={token}", server, folder / "server.log")
        yield address, token
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(url, server, log, seconds=60):
    for _ in range(4 * seconds):
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.25)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def browser_page():
    """A page of headless Chromium; skips where it cannot be had."""
    sync = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on the path: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser.new_page(viewport={"width": 1400, "height": 1600})
        finally:
            browser.close()


def test_slider_moved_by_keyboard_changes_the_picture(results, tmp_path):
    (tmp_path / "home").mkdir()
    shutil.copy(NOTEBOOKS / "03_core_epsf.ipynb", tmp_path)
    with browser_page() as page, jupyterlab(tmp_path, results) as (address, token):
        page.goto(f"{address}/lab/tree/03_core_epsf.ipynb?token={token}")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=WAIT)
        page.wait_for_function(KERNEL_IS_IDLE, timeout=WAIT)
        # The command's own promise is not returned: it may never settle.
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        # The kernel sends in order: once the last cell has printed, the picture is up to date.
        page.locator(".jp-OutputArea-output", has_text="px, e1 ").wait_for(timeout=WAIT)
        angle = page.locator(".widget-hslider", has_text="angle")
        angle.get_by_text("45.00").wait_for(timeout=WAIT)  # set by the last cell
        # The picture's address is a blob, a new one for each new picture.
        before = page.locator(PICTURE).get_attribute("src", timeout=WAIT)
        angle.locator(".noUi-handle").press("ArrowRight")
        angle.get_by_text("50.00").wait_for(timeout=WAIT)  # one step of 5 degrees
        page.wait_for_function(
            f"before => document.querySelector('{PICTURE}').src !== before",
            arg=before,
            timeout=WAIT,
        )
        assert not page.locator(".jp-RenderedText[data-mime-type*=error]").count()


def test_cutouts_are_sorted_by_a_click_and_by_keyboard(results, tmp_path):
    folder = results / "tiny/night1"
    planes = (
        products.read_exposure(folder / "exposure.fits"),
        products.read_difference(folder / "difference.fits"),
        products.read_difference(folder / "decorrelated.fits"),
    )
    found = products.read_candidates(folder / "candidates.ecsv")
    path = tmp_path / "candidates.html"
    path.write_text(gallery_page(("tiny", "night1"), "t.csv", found, planes, 50), encoding="utf-8")
    cells = "rows => rows.map(row => Number(row.cells[{}].dataset.value))"
    with browser_page() as page:
        errors, asked = [], []
        page.on("console", lambda message: errors.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        column = page.locator("th").all_inner_texts().index("snr")
        read = lambda: page.locator("tbody tr").evaluate_all(cells.format(column))  # noqa: E731
        assert read() == list(found["snr"])
        button = page.locator("th").nth(column).get_by_role("button")
        button.click()
        assert read() == sorted(found["snr"], reverse=True)
        button.press("Enter")
        assert read() == sorted(found["snr"])
        assert page.locator("th[aria-sort=ascending]").count() == 1
        sizes = page.locator("img.cut").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert min(sizes) > 100 and not errors
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
