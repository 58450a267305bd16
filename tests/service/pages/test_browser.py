"""The pages in chromium: by keyboard alone, on a phone, in dark mode, without an error."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("chromium, chromedriver: not installed", allow_module_level=True)

from deepfake_app.address import Names, open_listener, url_of
from deepfake_app.limits import PageLimits
from deepfake_app.server import served
from deepfake_service.pages.application import make_pages
from deepfake_service.service import Service
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from deepfake.types import Verdict
from docs.site.pictures import browsing
from tests.service.pages.visiting import PASSWORD, add_report, enter, visitor_of

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


@contextlib.contextmanager
def on_a_port(service: Service) -> Iterator[str]:
    """The address of the pages."""
    with (
        open_listener("127.0.0.1", 0, public=False) as listener,
        served(
            make_pages(service, Names("127.0.0.1")),
            listener,
            limits=PageLimits(),
            ending=lambda: None,
        ),
    ):
        yield url_of(listener).rstrip("/")


def fill(service: Service) -> list[str]:
    """Reports of an account ``anna``, the newest last."""
    identity = visitor_of(enter(service, "anna")).identity
    names = {
        "holiday.png": Verdict.AUTHENTIC,
        "<b onclick=alert(1)>bold</b>.png": Verdict.SUSPICIOUS,
        "a-very-long-name-" * 8 + ".png": Verdict.INCONCLUSIVE,
        "generated.png": Verdict.SYNTHETIC,
    }
    return [add_report(service, identity, name, verdict) for name, verdict in names.items()]


def sign_in(browser: Any, address: str) -> None:
    browser.get(f"{address}/cases")
    keys = ActionChains(browser)
    browser.find_element(By.NAME, "name").click()
    keys.send_keys("anna", Keys.TAB, PASSWORD, Keys.ENTER).perform()


def emulate(browser: Any, *, phone: bool = False, dark: bool = False) -> None:
    if phone:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


@pytest.mark.slow
def test_a_moderator_works_by_keyboard_on_a_phone_and_in_the_dark(
    service: Service, tmp_path: Path
) -> None:
    reports = fill(service)
    with on_a_port(service) as address, browsing(1100, 900, tmp_path / "profile") as browser:
        sign_in(browser, address)
        assert browser.current_url == f"{address}/cases"
        links = browser.find_elements(By.CSS_SELECTOR, "[data-row]")
        assert len(links) == len(reports)
        browser.execute_script("arguments[0].focus()", links[0])
        ActionChains(browser).send_keys("j", "j", "k").perform()
        assert browser.switch_to.active_element == links[1]
        compare = browser.find_element(By.CSS_SELECTOR, "[data-needs-two]")
        boxes = browser.find_elements(By.NAME, "report")
        assert not compare.is_enabled()
        for box in boxes[:2]:
            browser.execute_script("arguments[0].focus()", box)
            ActionChains(browser).send_keys(Keys.SPACE).perform()
        assert compare.is_enabled()
        assert not boxes[2].is_enabled()
        browser.get(f"{address}/cases/reports/{reports[-1]}")
        browser.execute_script("document.querySelector('[value=confirm]').focus()")
        keys = ActionChains(browser)
        keys.send_keys(Keys.ARROW_DOWN, Keys.TAB, "wrong, see the original", Keys.TAB, Keys.ENTER)
        keys.perform()
        assert browser.current_url.endswith("?ruled=yes")
        assert "overturned" in browser.find_element(By.CSS_SELECTOR, ".rulings").text
        emulate(browser, phone=True, dark=True)
        for path in (
            "/cases",
            f"/cases/reports/{reports[2]}",
            f"/cases/compare?report={reports[0]}&report={reports[2]}",
            "/cases/batches",
            "/cases/precision",
        ):
            browser.get(address + path)
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= PHONE["width"], path
            ground = browser.execute_script("return getComputedStyle(document.body).background")
            assert "rgb(15, 15, 17)" in ground
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert errors == []
