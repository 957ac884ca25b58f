"""Take the image of a report that stands in README.md: its decision, as a small PNG (for maintainers).

Needs Chromium (Debian: apt-get install chromium) and playwright, which the environment has for the tests.
"""

import argparse
import io
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.errors import InputError, ToolError, one_line
from mnasbench.files import written_atomically

# As wide as a page shows it without scaling down its text much; a palette of 200 colours keeps text smooth.
WIDTH, COLOURS = 1000, 200


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("page", type=Path, help="a report: results/report.html")
    parser.add_argument("image", type=Path, help="PNG to write: docs/report.png")
    return parser


def take(arguments: argparse.Namespace) -> None:
    """Open the page, take the image, shrink it."""
    if not arguments.page.is_file():
        raise InputError(f"{one_line(arguments.page)}: there is no such page; make it with `make run`")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise ToolError("chromium: is not on PATH; install it (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright  # the tests' own, which nobody else needs

    with sync_playwright() as driver:
        # Chromium refuses its sandbox to root.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
        page.goto(arguments.page.resolve().as_uri())
        plot = page.locator("#decision figure:visible").first.bounding_box()
        if plot is None:
            raise InputError(f"{one_line(arguments.page)}: shows no decision; is it a report of mnasbench?")
        screenshot = page.screenshot(
            full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": plot["y"] + plot["height"]}
        )
        browser.close()
    small = Image.open(io.BytesIO(screenshot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    with written_atomically(arguments.image) as temporary:
        small.save(temporary, "PNG", optimize=True)
    print(f"{arguments.image}: {small.width} x {small.height}, {arguments.image.stat().st_size / 1e3:.0f} KB")


def main(argv: Sequence[str] | None = None) -> int:
    """Take the image."""
    return run(build_parser(), take, argv)


if __name__ == "__main__":
    sys.exit(main())
