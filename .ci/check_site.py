"""The built site in headless Chromium, from a server on this machine: python .ci/check_site.py [lesson ...]

A lesson (1 and 2 if none is named) runs from top to bottom and shows no error. The first page, a lesson and a page
of the reference pass axe, light and dark. A request to another host is a failure, unless the build loads packages
from there.
"""

import functools
import http.server
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

SITE = Path(__file__).resolve().parent.parent / "notebooks/site"
PAGES = ("index.html", "notebooks/02_backprop_step_by_step.html", "reference/tinygrad_edu.html")
SECONDS = 400  # for one lesson
START = """async () => {
    await jupyterapp.shell.currentWidget.context.ready;
    await jupyterapp.shell.currentWidget.sessionContext.ready;
    jupyterapp.commands.execute("runmenu:run-all");
}"""
CELLS = """() => jupyterapp.shell.currentWidget.context.model.toJSON().cells
    .filter((cell) => cell.cell_type === "code")
    .map((cell) => [cell.execution_count, cell.outputs.filter((output) => output.output_type === "error")])"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def packages() -> dict[str, str]:
    """The packages of Pyodide that this build can load, and the file of each: an address, if it is elsewhere."""
    lock = json.loads((SITE / "lite/static/pyodide/pyodide-lock.json").read_text("utf-8"))
    return {name: package["file_name"] for name, package in lock["packages"].items()}


def run_lesson(page: Page, address: str, name: str) -> str:
    """What went wrong, if anything."""
    start, first = time.monotonic(), 0.0
    page.goto(f"{address}/lite/notebooks/index.html?path={name}.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.evaluate(START)
    while time.monotonic() < start + SECONDS:
        page.wait_for_timeout(500)
        cells = page.evaluate(CELLS)
        for number, (_, errors) in enumerate(cells):
            if errors:
                text = "\n".join(errors[0].get("traceback") or [errors[0]["evalue"]])
                return f"{name}: cell {number} shows an error in the browser:\n{text}"
        counts = [count for count, _ in cells]
        first = first or (time.monotonic() - start) * (counts[:2] == [1, 2])
        if counts == list(range(1, len(counts) + 1)):
            seconds = time.monotonic() - start
            print(
                f"{name}: {len(counts)} cells, the lesson's first after {first:.0f} s, all after {seconds:.0f} s"
            )
            return ""
    return f"{name} did not end within {SECONDS} s: {counts}"


def check(browser: Browser, address: str, lessons: list[str]) -> Iterator[str]:
    """Every fault of the pages, then of the lessons."""
    asked: list[str] = []
    for theme in ("light", "dark") if not lessons else ():
        context = browser.new_context(color_scheme=theme)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        for name in PAGES:
            page.goto(f"{address}/{name}")
            for fault in Axe().run(page).response["violations"]:
                yield f"{name}, {theme}: {fault['help']}: {[node['html'][:200] for node in fault['nodes']]}"
    context = browser.new_context()
    context.on("request", lambda request: asked.append(request.url))
    for name in lessons or ("01_derivatives_and_values", "02_backprop_step_by_step"):
        if fault := run_lesson(context.new_page(), address, name):
            yield fault
    elsewhere = {name.rpartition("/")[0] for name in packages().values() if name.startswith("https:")}
    allowed = (address, "data:", "blob:", *elsewhere)
    yield from (f"asked another host: {url}" for url in asked if not url.startswith(allowed))


def main(lessons: list[str]) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        faults = list(check(browser, f"http://127.0.0.1:{server.server_port}", lessons))
        browser.close()
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
