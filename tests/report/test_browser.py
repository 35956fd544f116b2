"""The page as a reader has it: in a headless Chromium, which the tests start themselves."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pulse.batch.journal import JOURNAL_NAME, Journal
from pulse.batch.runner import Runner
from pulse.report.page import Page, report_on_run
from pulse.report.runs import Run
from pulse.settings import RunSettings, SearchSettings, UpscaleSettings

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
Select = pytest.importorskip("selenium.webdriver.support.select").Select
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

SETTINGS = UpscaleSettings(candidates=3, search=SearchSettings(steps=3, tolerance=0.01))
OPEN_WITHIN_S = 3


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no chromium and chromedriver here (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--hide-scrollbars", "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def run(small_generator, tmp_path_factory):
    """A real run: faces within the tolerance and above it, one without a face, one unreadable."""
    base = tmp_path_factory.mktemp("report")
    folder, out = base / "in", base / "a run's folder, 100% ü#?"
    folder.mkdir()
    for name, colour in (
        ("a", "red"),
        ("b", "blue"),
        ("c & 'd' <e>", "grey"),
        ("d #1, 50%", "navy"),
    ):
        Image.new("RGB", (8, 8), colour).save(folder / f"{name}.png")
    (folder / "unreadable.png").write_bytes(b"")
    Image.effect_noise((300, 200), 50).save(folder / "view.png")
    Runner(out, small_generator, SETTINGS, RunSettings(batch_size=4)).run([folder])
    return out


@pytest.fixture
def opened(browser, run):
    """The run's page, fresh, and nothing on the console when the test is over."""
    device(browser, 1280, 900)
    browser.get(report_on_run(run).as_uri())
    browser.get_log("browser")
    browser.refresh()
    wait_for_pictures(browser)
    yield browser
    assert browser.get_log("browser") == []


def device(browser, width, height, scheme="light"):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


PICTURES_IN_SIGHT = """
    const seen = [...document.images].filter((img) => {
      const box = img.getBoundingClientRect();
      return box.bottom > 0 && box.top < innerHeight && box.width > 0;
    });
    return seen.every((img) => img.complete && img.naturalWidth > 0);
"""


def wait_for_pictures(browser, at_most_s=20):
    deadline = time.monotonic() + at_most_s
    while not browser.execute_script(PICTURES_IN_SIGHT):
        assert time.monotonic() < deadline, "pictures in sight did not load"
        time.sleep(0.02)


def cards(browser):
    return browser.find_elements("css selector", "article")


def names(browser):
    return [card.find_element("tag name", "h3").text for card in cards(browser)]


def card_of(browser, name):
    return cards(browser)[names(browser).index(name)]


def press(browser, *keys):
    for key in keys:
        webdriver.ActionChains(browser).send_keys(key).perform()


def seen(browser, element):
    """What an element looks like, (H, W, 3)."""
    script = "arguments[0].scrollIntoView({block: 'center'})"
    browser.execute_script(script, element)
    wait_for_pictures(browser)
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def test_every_picture_loads_and_says_what_it_shows(opened):
    assert names(opened) == ["a", "b", "c & 'd' _e_", "d #1, 50%", "unreadable", "view"]
    for image in opened.find_elements("css selector", "article:not(.bare) img"):
        opened.execute_script("arguments[0].scrollIntoView()", image)
        wait_for_pictures(opened)
        assert image.get_attribute("alt")
    fetched = opened.execute_script(
        "return performance.getEntriesByType('resource').map(e=>e.name)"
    )
    assert all(name.startswith(("file:", "data:")) for name in fetched)


def test_the_first_screen_says_what_the_pictures_are_not(opened):
    text = opened.find_element("css selector", "body > header").text
    assert "Nobody in these pictures exists." in text
    assert "must not be used to identify" in text


def test_the_slider_uncovers_the_candidate(opened):
    card = card_of(opened, "a")
    slider, range_ = (
        card.find_element("class name", "slider"),
        card.find_element("tag name", "input"),
    )
    size = slider.size["width"]
    red = [255, 0, 0]

    def is_input(picture, x):
        return np.abs(picture[size // 4, int(x * size)] - red).max() <= 2  # colours of a screenshot

    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    wait_for_pictures(opened)
    for share in (0.1, 0.9):
        to_x = int((share - 0.5) * size)
        drag = webdriver.ActionChains(opened).move_to_element(range_).click_and_hold()
        drag.move_by_offset(to_x, 0).release().perform()
        assert abs(int(range_.get_property("value")) - 100 * share) <= 5  # a thumb has a width
        picture = seen(opened, slider)
        assert is_input(picture, share - 0.07)
        assert not is_input(picture, share + 0.07)


def test_each_candidate_is_shown_beside_the_input_as_pixels(opened, run):
    card = card_of(opened, "b")
    strip = np.asarray(Image.open(run / "b/downscaled.png")).astype(int)
    for number, pair in enumerate(card.find_elements("class name", "pair")):
        left, right = (seen(opened, tile) for tile in pair.find_elements("class name", "tile"))
        assert np.abs(left[20, 20] - [0, 0, 255]).max() <= 2
        want = strip[:, 8 * number : 8 * number + 8]
        step = right.shape[0] / 8
        at = ((np.arange(1, 7) + 0.5) * step).astype(int)  # the corners are rounded
        assert np.abs(right[at][:, at] - want[1:7, 1:7]).max() <= 2


def test_filters_show_what_they_count(opened):
    buttons = opened.find_elements("css selector", "#filters button")
    assert buttons[0].text == "all 6"
    for button in buttons[1:]:
        status, shown = button.get_attribute("data-status"), button.text.split()[-1]
        button.click()
        assert len(cards(opened)) == int(shown) > 0
        assert all(status in card.get_attribute("class").split() for card in cards(opened))
        assert button.get_attribute("aria-pressed") == "true"
    statuses = {button.get_attribute("data-status") for button in buttons}
    assert {"no-face", "failed"} < statuses
    assert opened.find_element("id", "count").text == "1 of 6 shown"
    buttons[0].click()
    assert len(cards(opened)) == 6


def test_sorting_by_error(opened, run):
    best = {}
    for record in Journal(run).read():
        if record.error is not None:
            best[record.folder] = min(record.error, best.get(record.folder, 1))
    by_error = sorted(best, key=best.get)
    order = Select(opened.find_element("id", "sort"))
    order.select_by_value("worst")
    assert names(opened)[:4] == by_error[::-1]
    order.select_by_value("best")
    assert names(opened)[:4] == by_error


def test_the_keyboard_is_enough(opened):
    def active():
        return opened.execute_script("return document.activeElement")

    press(opened, "j")
    assert active() == cards(opened)[0]
    press(opened, "j", "j", "k")
    assert active() == cards(opened)[1]
    press(opened, "3")
    pressed = cards(opened)[1].find_elements("css selector", "[aria-pressed=true]")
    assert [button.get_attribute("data-number") for button in pressed] == ["3"]
    assert cards(opened)[1].find_element("css selector", ".tag.right").text == "candidate 3"
    press(opened, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    slider = cards(opened)[1].find_element("tag name", "input")
    assert slider.get_property("value") == "55"
    press(opened, "?")
    assert opened.find_element("id", "keys").is_displayed()
    press(opened, "/", "v", "i", "e")
    assert names(opened) == ["view"]
    press(opened, Keys.ESCAPE)
    opened.find_element("id", "find").clear()
    opened.find_element("tag name", "h1").click()
    press(opened, "s")
    assert opened.find_element("id", "sort").get_property("value") == "worst"
    press(opened, "f")
    assert len(cards(opened)) < 6


def test_tab_reaches_the_slider_and_arrows_move_it(opened):
    press(opened, "j", Keys.TAB)
    slider = opened.execute_script("return document.activeElement")
    assert slider.get_attribute("type") == "range"
    press(opened, Keys.ARROW_LEFT)
    assert slider.get_property("value") == "49"
    stage = cards(opened)[0].find_element("class name", "slider")
    assert (
        opened.execute_script("return arguments[0].style.getPropertyValue('--at')", stage) == "49%"
    )


def test_the_command_names_the_picture_and_the_settings(opened, run):
    card = card_of(opened, "c & 'd' _e_")
    card.find_element("tag name", "summary").click()
    words = shlex.split(card.find_element("tag name", "pre").text)
    source = run.parent / "in" / "c & 'd' <e>.png"
    assert words[:3] == ["pulse", "upscale", str(source)]
    options = " ".join(words[3:])
    assert options == ("-n 3 --seed 0 --generator ada-plain --steps 3 --tolerance 0.01 -o again")
    assert "give the path of the weights file" in card.text  # the name alone does not find it


@pytest.mark.parametrize("width", [360, 390, 768])
def test_nothing_is_wider_than_a_phone(opened, width):
    device(opened, width, 800)
    opened.refresh()
    wait_for_pictures(opened)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width


def test_dark_and_light(opened):
    script = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    light = opened.execute_script(script)
    device(opened, 1280, 900, "dark")
    dark = opened.execute_script(script)
    assert min(light) > 230
    assert max(dark) < 40


def test_an_embedded_page_needs_no_other_file(browser, run, tmp_path):
    page = tmp_path / "alone.html"
    Page([Run.open(run)], page, embed=True).write()
    browser.get(page.as_uri())
    wait_for_pictures(browser)
    assert len(cards(browser)) == 6
    assert browser.get_log("browser") == []
    fetched = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e=>e.name)"
    )
    assert all(name.startswith("data:") for name in fetched)


@pytest.fixture(scope="module")
def thousand(run, tmp_path_factory):
    """A run of 1,000 faces: the files and records of a real one, many times over."""
    out = tmp_path_factory.mktemp("thousand")
    shutil.copy(run / "run.json", out)
    records = [record for record in Journal(run).read() if record.folder == "a"]
    with (out / JOURNAL_NAME).open("w") as journal:
        for number in range(1000):
            name = f"face-{number:04}"
            shutil.copytree(run / "a", out / name, copy_function=os.link)
            for record in records:
                output = record.output.replace("a/", f"{name}/")
                source = record.source.replace("a.png", f"{name}.png")
                values = {"folder": name, "output": output, "source": source}
                values["error"] = record.error + number / 1e6
                journal.write(f"{replace(record, **values).to_json()}\n")
    return report_on_run(out)


def test_a_thousand_faces_open_at_once(browser, thousand):
    assert len(json.loads(thousand.read_text().split('id="face-data" type="application/json">')[1]
                          .split("</script>")[0])) == 1000  # fmt: skip
    device(browser, 1280, 900)
    browser.get("about:blank")
    began = time.monotonic()
    browser.get(thousand.as_uri())
    wait_for_pictures(browser)
    took_s = time.monotonic() - began
    assert took_s < OPEN_WITHIN_S, took_s
    loaded = browser.execute_script("return [...document.images].filter(i => i.complete).length")
    assert loaded < 1000  # of 8,000: the rest waits until somebody comes near
    assert browser.get_log("browser") == []


def test_the_list_grows_as_one_reads(browser, thousand):
    device(browser, 1280, 900)
    browser.get(thousand.as_uri())
    before = len(cards(browser))
    assert before < 100
    for _ in range(3):
        browser.execute_script("scrollTo(0, document.body.scrollHeight)")
        time.sleep(0.3)
    assert len(cards(browser)) > before
    opened_at = browser.find_element("id", "find")
    opened_at.send_keys("0999")
    assert names(browser) == ["face-0999"]
