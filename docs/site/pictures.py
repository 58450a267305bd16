"""The pictures of README and docs, of generated media alone: ``python -m docs.site.pictures``.

Needs the programs ``chromium`` and ``chromedriver`` and the extras ``app`` and ``docs``. The
pictures are committed, so that nobody else needs a browser.

================  ==================================================================
page.png          the page with the report of ``sdxl.png``
contact-sheet.jpg the contact sheet of ``clip.mp4``
scan.png          the page that ``deepfake scan --html`` writes about all samples
================  ==================================================================
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import presence_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

from examples.samples import write_samples

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 400_000
PATIENCE_SECONDS = 120
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextlib.contextmanager
def browsing(width: int, height: int, folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a window of so many pixels and a profile of its own."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        raise SystemExit(
            "chromium, chromedriver: not installed; run: apt-get install chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])  # else Selenium would look for one to download
    for flag in (*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=str(programs[1]))
    browser = webdriver.Chrome(options=options, service=service)
    try:
        yield browser
    finally:
        browser.quit()


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The address of the page while it is served."""
    command = [sys.executable, "-m", "deepfake", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://[\d.:]+/", server.stdout.readline())
            if found is None:
                raise RuntimeError("the page did not start")
            yield found[0]
        finally:
            server.terminate()


def draw_page(media: Path, profile: Path) -> Image.Image:
    """The page once it has examined a file."""
    with serving() as address, browsing(1180, 1000, profile) as browser:
        wait = WebDriverWait(browser, PATIENCE_SECONDS)
        browser.get(address)
        wait.until(presence_of_element_located((By.ID, "df-files"))).send_keys(os.fspath(media))
        wait.until(presence_of_element_located((By.CSS_SELECTOR, ".df-chosen li")))
        browser.find_element(By.ID, "df-examine").click()
        wait.until(presence_of_element_located((By.CSS_SELECTOR, "#df-shown .df-verdict")))
        time.sleep(2)  # it scrolls to the verdict
        browser.execute_script("window.scrollTo(0, 0)")
        return _shoot(browser)


def draw_scan(samples: Path, folder: Path) -> Image.Image:
    """The page about a scan of the samples."""
    page = folder / "results.html"
    _deepfake(
        *("scan", samples.name, "--output", "results.jsonl", "--exclude", "*.pem"),
        *("--html", page.name, "--workers", "1"),
        folder=folder,
    )
    with browsing(1180, 820, folder / "profile") as browser:
        browser.get(page.as_uri())
        return _shoot(browser)


def draw_contact_sheet(clip: Path, folder: Path) -> Image.Image:
    """The contact sheet of a video."""
    sheet = folder / "sheet.png"
    _deepfake("detect", os.fspath(clip), "--save-heatmap", os.fspath(sheet), folder=folder)
    return Image.open(sheet).convert("RGB")


def _shoot(browser: webdriver.Chrome) -> Image.Image:
    return Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB")


def _deepfake(*words: str, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "deepfake", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, samples = Path(name), Path(name) / "samples"
        write_samples(samples)
        page = draw_page(samples / "sdxl.png", folder / "profile-of-page")
        _as_palette(page).save(PICTURES / "page.png", optimize=True)
        scan = draw_scan(samples, folder)
        _as_palette(scan).save(PICTURES / "scan.png", optimize=True)
        sheet = draw_contact_sheet(samples / "clip.mp4", folder)
        sheet.thumbnail((1180, 4000))
        sheet.save(PICTURES / "contact-sheet.jpg", quality=80, optimize=True)
    sizes = {path.name: path.stat().st_size for path in sorted(PICTURES.iterdir())}
    for picture, size in sizes.items():
        sys.stdout.write(f"{picture} {size / 1000:.0f} kB\n")
    if sum(sizes.values()) > MOST_BYTES:
        raise SystemExit(f"pictures: {sum(sizes.values())} bytes are more than {MOST_BYTES}")


def _as_palette(picture: Image.Image) -> Image.Image:
    """The picture with 128 colours, which a screenshot hardly needs more of."""
    return picture.quantize(128, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
