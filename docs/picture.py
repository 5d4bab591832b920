"""Makes the README's picture, ``docs/images/demo.gif``, from the running demo.

    make demo       # in one terminal
    make picture    # in another

It signs somebody up in a real Chromium, as anyone would who tries the demo, and takes pictures on
the way.
"""

from __future__ import annotations

import argparse
import io
import secrets
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

PICTURE = Path(__file__).parent / "images" / "demo.gif"
VIEW = {"width": 1080, "height": 680}
Frame = tuple[Image.Image, int]  # a picture, and for how many milliseconds it stands


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", default="http://127.0.0.1:8000/")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=VIEW, locale="en", device_scale_factor=1)
        frames = list(signup(page, options.site))
        browser.close()
    save(frames, PICTURE)


def signup(page: Page, site: str) -> Iterator[Frame]:
    """Sign up, and yield what is to be seen."""
    page.goto(site)
    yield take(page), 1200
    number = f"916 {secrets.randbelow(900) + 100} 45 67"  # another one each time
    for part in number.split():
        page.get_by_label("Phone number").press_sequentially(f" {part}")
        yield take(page), 250
    yield take(page), 500
    page.get_by_role("button", name="Call me").click()
    page.locator(".vp-call").wait_for()
    for _ in range(9):
        page.wait_for_timeout(60)
        frame = take(page)
        frame.info["ringing"] = True
        yield frame, 130
    digits = page.locator(".vp-call mark").inner_text()
    page.get_by_role("button", name="Decline").click()
    page.locator(".vp-missed mark").first.wait_for()
    yield take(page), 1000
    field = page.get_by_role("textbox", name="Code")
    for digit in digits[:-1]:
        field.press_sequentially(digit)
        yield take(page), 300
    field.press_sequentially(digits[-1])  # which sends them
    page.wait_for_url("**/signup/**")
    yield take(page), 2500


def take(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def save(frames: list[Frame], path: Path) -> None:
    """Write an animation whose frames share one palette, so that only what moves is stored."""
    width, height = VIEW["width"], VIEW["height"]
    # The phone has the many colours: a page's few would crowd them out in proportion to its area.
    ringing = next(image for image, _ in frames if image.info.get("ringing"))
    sample = Image.new("RGB", (width, height))
    sample.paste(frames[0][0].crop((width * 2 // 3, 0, width, height)), (0, 0))
    sample.paste(ringing.crop((width * 2 // 3, 0, width, height)), (width // 3, 0))
    sample.paste(ringing.resize((width // 3, height // 3)), (width * 2 // 3, 0))
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=2)
    images = [
        image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for image, _ in frames
    ]
    path.parent.mkdir(exist_ok=True)
    images[0].save(
        path,
        save_all=True,
        append_images=images[1:],
        duration=[milliseconds for _, milliseconds in frames],
        loop=0,
        optimize=True,
        disposal=1,
    )
    print(f"{path}: {path.stat().st_size // 1024} KiB, {len(images)} frames")


if __name__ == "__main__":
    main()
