"""Makes live.gif, the page of `tg.live` in use, with playwright and Chromium: python notebooks/pictures/live.py"""

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import tinygrad_edu as tg

HERE = Path(__file__).parent
SIZE = {"width": 880, "height": 470}


def main() -> None:
    def neuron(w, x, b):
        return tg.tanh(w * x + b)

    page_file = Path(tempfile.mkdtemp()) / "live.html"
    tg.live(neuron, w=0.5, x=1.5, b=-0.25).to_html(page_file)
    frames: list[tuple[Image.Image, int]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(page_file.as_uri())

        def shot(milliseconds: int) -> None:
            page.wait_for_timeout(80)
            picture = Image.open(io.BytesIO(page.screenshot()))
            frames.append((picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64), milliseconds))

        shot(1500)
        box = page.locator("g.node[aria-label^='w,']").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(1, 7):  # drag w to the right
            page.mouse.move(x + 20 * step, y)
            shot(350)
        page.mouse.up()
        shot(1500)
        page.click("#first")
        for _ in range(6):  # forward, then backward
            page.keyboard.press("ArrowRight")
            shot(1300)
        browser.close()
    first, *others = (picture for picture, _ in frames)
    durations = [milliseconds for _, milliseconds in frames]
    first.save(HERE / "live.gif", save_all=True, append_images=others, duration=durations, loop=0, optimize=True)


if __name__ == "__main__":
    main()
