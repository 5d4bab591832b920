"""Makes the README's picture, ``docs/images/demo.gif``, from the running demo.

    make demo                           # in one terminal
    .venv/bin/python docs/picture.py    # in another

It signs somebody up in a real Chromium, as anyone would who tries the demo, and takes pictures on
the way. ``--still`` writes the one with the ringing phone alone, as a PNG.
"""

from __future__ import annotations

import argparse
import io
import secrets
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
VIEW = {"width": 1080, "height": 700}
COLOURS = 200  # of 256: fewer make it smaller, and the phone's wallpaper striped
Frame = tuple[Image.Image, int]  # a picture, and for how many milliseconds it stands


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", default="http://127.0.0.1:8000/")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--still", action="store_true", help="write demo.png instead")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=VIEW, locale="en", device_scale_factor=1)
        frames = list(signup(page, options.site))
        browser.close()
    if options.still:
        ringing = max(range(len(frames)), key=lambda n: frames[n][0].info.get("ringing", False))
        frames[ringing][0].save(IMAGES / "demo.png", optimize=True)
    else:
        save(frames, IMAGES / "demo.gif")


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
    for _ in range(12):
        page.wait_for_timeout(60)
        frame = take(page)
        frame.info["ringing"] = True
        yield frame, 130
    digits = page.locator(".vp-call mark").inner_text()
    page.get_by_role("button", name="Decline").click()
    page.locator(".vp-missed mark").first.wait_for()
    yield take(page), 1000
    for digit in digits:
        last = digit is digits[-1]
        if last:
            yield take(page), 400
        page.keyboard.type(digit)
        if not last:
            yield take(page), 250
    page.wait_for_url("**/signup/**")
    yield take(page), 2500


def take(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def save(frames: list[Frame], path: Path) -> None:
    """Write an animation whose frames share one palette, so that only what moves is stored."""
    width, height = frames[0][0].size
    shown = Image.new("RGB", (width * 2, height))
    ringing = next(image for image, _ in frames if image.info.get("ringing"))
    shown.paste(frames[0][0], (0, 0))
    shown.paste(ringing, (width, 0))
    palette = shown.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image, _ in frames]
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
