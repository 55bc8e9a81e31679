"""The page explore.html in a real browser: its numbers, clicks, hovers, drawing, keyboard, a phone's width, dark mode.

It needs Selenium and Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lenet_runs
import numpy as np
import pytest
from explore_page import PHONE, Page
from lenet_runs import fastconv

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
MISSING = [
    what
    for what, found in (
        ("Chromium (apt-get install chromium)", CHROMIUM),
        ("chromedriver (apt-get install chromium-driver)", CHROMEDRIVER),
        ("Selenium (pip install selenium)", find_spec("selenium")),
    )
    if not found
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
digits, npz = lenet_runs.digits, lenet_runs.npz  # fixtures
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def out(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explore")
    process = fastconv("lenet", "--data", npz, "--limit", "3000", "--epochs", "1", "--out", folder)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture(scope="module")
def model(out: Path) -> Any:
    import keras

    return keras.saving.load_model(out / "model_stock.keras")


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1440,1000",
    ):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def page(driver: Any, out: Path) -> Page:
    page = Page(driver, (out / "explore.html").as_uri())
    page.open()
    return page


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def predicted(model: Any, pixels: np.ndarray) -> np.ndarray:
    """Probabilities of an image (28, 28) or of a batch of them."""
    return softmax(model.predict(pixels.reshape(-1, 28, 28, 1), verbose=0))


# ---- Numbers


def test_probabilities_of_the_hundred_digits_are_those_of_the_model(page: Page, model: Any) -> None:
    count = page.run("return explore.data.labels.length")
    assert count == 100
    pixels, found = page.run(
        """const pixels = explore.data.labels.map((_, i) => explore.digitPixels(i));
        return [pixels.map((p) => [...p]), pixels.map((p) => [...explore.forward(p).probabilities])]"""
    )
    expected = predicted(model, np.array(pixels, np.float32))
    np.testing.assert_allclose(np.array(found), expected, rtol=0, atol=1e-4)


def test_all_layers_compute_what_the_model_does(page: Page, model: Any) -> None:
    import keras

    page.run("explore.pick(37)")
    names = page.run("return explore.layers.slice(1).map((l) => l.name)")
    layers = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    expected = layers.predict(page.pixels().reshape(1, 28, 28, 1), verbose=0)
    for name, ours, theirs in zip(names, page.outputs()[1:], expected, strict=True):
        np.testing.assert_allclose(ours, theirs.ravel(), rtol=0, atol=1e-4, err_msg=name)


# ---- Clicks and hovers


def test_a_click_on_a_digit_shows_its_image_and_answer(page: Page, model: Any, digits: dict[str, np.ndarray]) -> None:
    button = page.find('.digit[aria-label*="digit 42:"]')
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    pixels = page.pixels()
    assert any(np.array_equal(np.rint(pixels * 255), image) for image in digits["x_test"])
    expected = predicted(model, pixels)[0]
    widths = page.run("return [...document.querySelectorAll('#bars .fill')].map((e) => parseFloat(e.style.width))")
    np.testing.assert_allclose(np.array(widths) / 100, expected, rtol=0, atol=1e-4)
    assert f"The network says {expected.argmax()}" in page.text("#guess")
    # Ten of each class, sorted by class.
    right = expected.argmax() == 4
    assert page.text("#guess").endswith("Right." if right else "Wrong: it is a 4.")


@pytest.mark.parametrize(("layer", "row", "column", "terms"), [("conv1", 13, 11, 9), ("conv2", 4, 6, 54)])
def test_a_hovered_value_of_a_convolution_shows_its_sum(
    page: Page, layer: str, row: int, column: int, terms: int
) -> None:
    page.run("explore.pick(55)")
    page.hover(layer, 5, row, column)
    assert page.text("#detail-title") == f"{layer}, map 5, row {row}, column {column}"
    index = 1 if layer == "conv1" else 3
    before, after = page.outputs()[index - 1], page.outputs()[index]
    channels, maps = (1, 6) if layer == "conv1" else (6, 16)
    tables = page.run("return [...document.querySelectorAll('#detail-content .numbers')].map((t) => t.ariaLabel)")
    numbers = np.array(page.values(".numbers td"))
    windows = np.concatenate([numbers[9 * i :][:9] for i, name in enumerate(tables) if name.startswith("Window")])
    filters = np.concatenate([numbers[9 * i :][:9] for i, name in enumerate(tables) if name.startswith("Filter")])
    assert len(windows) == len(filters) == terms
    side = {"conv1": 28, "conv2": 13}[layer]
    expected = before.reshape(side, side, channels)[row : row + 3, column : column + 3]
    np.testing.assert_array_equal(windows.astype(np.float32), np.moveaxis(expected, 2, 0).ravel())
    (bias,), (value,), (total,) = page.values(".bias"), page.values(".value"), page.values(".total")
    assert total == pytest.approx(windows @ filters, abs=1e-4)
    assert value == pytest.approx(total + bias, abs=1e-4)
    width = side - 2
    assert value == pytest.approx(after.reshape(width, width, maps)[row, column, 5], abs=1e-6)
    # The window is outlined on all maps below, and the receptive field on the image.
    fields = page.outlines("field")
    below = "input" if layer == "conv1" else "pool1"
    assert [box for name, _, box in fields if name == below] == [[column, row, 3, 3]] * channels
    image = [column, row, 3, 3] if layer == "conv1" else [2 * column, 2 * row, 8, 8]
    assert [box for name, _, box in fields if name == "input"] == [image]
    assert page.outlines("cell") == [(layer, 5, [column, row, 1, 1])]


def test_a_hovered_value_of_a_pool_shows_which_value_was_chosen(page: Page) -> None:
    page.run("explore.pick(81)")
    page.hover("pool1", 2, 6, 7)
    window = np.array(page.values(".numbers td"))
    expected = page.outputs()[1].reshape(26, 26, 6)[12:14, 14:16, 2]
    np.testing.assert_array_equal(window.astype(np.float32), expected.ravel())
    assert page.values(".numbers td.chosen") == [window.max()] == page.values(".value")
    down, across = divmod(int(window.argmax()), 2)
    assert page.outlines("best") == [("conv1", 2, [14 + across, 12 + down, 1, 1])]
    assert ("conv1", 2, [14, 12, 2, 2]) in page.outlines("field")
    assert ("input", 0, [14, 12, 4, 4]) in page.outlines("field")


@pytest.mark.parametrize(
    ("layer", "which"), [("dense1", "largest"), ("dense1", "least"), ("dense2", "least"), ("logits", "largest")]
)
def test_a_hovered_unit_shows_its_largest_products_and_sum(page: Page, model: Any, layer: str, which: str) -> None:
    page.run("explore.pick(12)")
    index = {"dense1": 5, "dense2": 6, "logits": 7}[layer]
    before, after = page.outputs()[index - 1], page.outputs()[index]
    kernel, bias = model.get_layer(layer).get_weights()
    sums = before @ kernel + bias
    unit = int(sums.argmax() if which == "largest" else sums.argmin())
    assert which == "largest" or sums[unit] < -0.01  # ReLU makes it 0
    row, column = divmod(unit, page.shape(layer)[1])
    page.hover(layer, 0, row, column)
    assert page.text("#detail-title") == f"{layer}, unit {unit}"
    products = before * kernel[:, unit]
    largest = products[np.argsort(-np.abs(products), kind="stable")[:6]]
    shown = np.array(page.values(".terms tbody tr td:last-child"))
    np.testing.assert_allclose(shown[:6], largest, rtol=0, atol=1e-5)
    assert shown[6] == pytest.approx(products.sum() - largest.sum(), abs=1e-4)
    (total,), (value,) = page.values(".total"), page.values(".value")
    assert total == pytest.approx(products.sum(), abs=1e-4)
    assert page.values(".bias") == [pytest.approx(bias[unit], abs=1e-6)]
    expected = total + bias[unit]
    assert value == pytest.approx(expected if layer == "logits" else max(0, expected), abs=1e-4)
    assert value == pytest.approx(after[unit], abs=1e-6)


def test_a_click_keeps_a_value_and_a_probability_shows_its_softmax(page: Page, model: Any) -> None:
    page.hover("conv1", 1, 5, 5, click=True)
    page.hover("conv2", 1, 5, 5)
    assert page.text("#detail-title").startswith("conv2, map 1")
    page.actions().move_to_element(page.find("h1")).perform()
    assert page.text("#detail-title") == "conv1, map 1, row 5, column 5"
    page.find("#bars li:nth-child(8) button").click()
    assert page.text("#detail-title") == "Probability of 7"
    assert page.values(".value") == [pytest.approx(predicted(model, page.pixels())[0][7], abs=1e-4)]


# ---- Drawing


def check_drawn(page: Page, model: Any) -> None:
    """The image is centred and scaled as MNIST's are, and the answer is that of the model."""
    pixels = page.pixels()
    assert page.run("return explore.state.source") == "drawing"
    assert 0 <= pixels.min() and 0.9 < pixels.max() <= 1
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    for axis in (0, 1):
        centre = (pixels.sum(axis=1 - axis) * np.arange(28)).sum() / pixels.sum()
        assert abs(centre - 14) <= 0.5 + 1e-6
    expected = predicted(model, pixels)[0]
    found = page.run("return [...explore.state.result.probabilities]")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert f"The network says {expected.argmax()}" in page.text("#guess")


def test_a_digit_is_drawn_with_the_mouse(page: Page, model: Any) -> None:
    page.find("#tab-draw").click()
    pad = page.find("#pad")
    assert page.find("#pad-hint").is_displayed()
    before = page.pixels()
    moves = page.actions().move_to_element_with_offset(pad, -50, -80).click_and_hold().move_by_offset(90, 0)
    moves.perform()
    page.settle()
    held = page.pixels()
    assert not np.array_equal(held, before)  # at once, not at the end of the stroke
    page.actions().move_by_offset(-30, 60).move_by_offset(-20, 70).release().perform()
    page.settle()
    check_drawn(page, model)
    assert not page.find("#pad-hint").is_displayed()
    rows, columns = (np.flatnonzero(page.pixels().any(axis=axis)) for axis in (1, 0))
    assert np.ptp(rows) > np.ptp(columns)
    drawn = page.pixels()
    page.actions().move_to_element_with_offset(pad, 60, 60).click_and_hold().move_by_offset(30, 0).release().perform()
    page.settle()
    assert not np.array_equal(page.pixels(), drawn)
    page.find("#undo").click()
    page.settle()
    np.testing.assert_array_equal(page.pixels(), drawn)
    page.find("#clear").click()
    page.settle()
    assert not page.pixels().any() and page.text("#guess") == "Nothing is drawn yet."
    page.find("#tab-pick").click()
    page.find(".digit").click()
    assert page.run("return explore.state.source") == 0


def test_a_digit_is_drawn_with_a_finger(page: Page, model: Any) -> None:
    page.open(PHONE)
    page.find("#tab-draw").click()
    page.run("document.querySelector('#pad').scrollIntoView({block: 'center'})")
    left, top = page.run("const a = document.querySelector('#pad').getBoundingClientRect(); return [a.left, a.top]")
    before = page.run("return scrollY")

    def touch(kind: str, *points: tuple[int, int]) -> None:
        touches = [{"x": left + x, "y": top + y} for x, y in points]
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", (150, 240))  # upwards, which would scroll the page down
    for y in range(220, 30, -20):
        touch("touchMove", (150, y))
    touch("touchEnd")
    page.settle()
    check_drawn(page, model)
    assert page.run("return scrollY") == before  # the finger draws and does not scroll


# ---- Keyboard and screen readers


def test_the_keyboard_reaches_everything(page: Page, model: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def focused() -> str:
        return str(page.run("const e = document.activeElement; return e.ariaLabel || e.id || e.textContent"))

    names = []
    for _ in range(30):
        page.press(Keys.TAB)
        names.append(focused())
        if names[-1].startswith("logits"):
            break
    for start in ("test digit 0", "input", "conv1, map 0", "pool1", "conv2", "pool2", "dense1", "dense2", "logits"):
        assert any(name.lower().startswith(start) for name in names), (start, names)
    page.map("conv1").send_keys(Keys.ARROW_RIGHT)
    title = page.text("#detail-title")
    assert title.startswith("conv1, map 0, row 12, column 13")
    page.press(Keys.ARROW_DOWN, Keys.PAGE_DOWN, Keys.HOME, Keys.ARROW_LEFT)
    assert page.text("#detail-title") == "conv1, map 1, row 13, column 0"
    assert focused().startswith("conv1, map 1")
    spoken = page.text("#spoken")
    assert spoken.startswith("conv1, map 1, row 13, column 0: ")
    value = page.outputs()[1].reshape(26, 26, 6)[13, 0, 1]
    assert float(spoken.split(": ")[1].replace(MINUS, "-")) == pytest.approx(value, abs=6e-4)
    page.find(".digit").send_keys(Keys.ARROW_DOWN)
    assert page.run("return explore.state.source") == 10 and "digit 10:" in focused()
    page.find("#tab-pick").send_keys(Keys.ARROW_RIGHT)
    pad = page.find("#pad")
    assert pad.is_displayed()
    pad.send_keys(Keys.ARROW_UP, Keys.ARROW_UP, " ", *[Keys.ARROW_DOWN] * 9, " ")
    page.settle()
    check_drawn(page, model)
    assert page.text("#spoken") == page.text("#guess")


def test_everything_that_can_be_used_has_a_name(page: Page) -> None:
    nameless = page.run(
        """return [...document.querySelectorAll('button, [tabindex], [role=img], canvas, summary')]
            .filter((e) => !e.ariaLabel && !/[a-z0-9]/i.test(e.textContent) && e.ariaHidden !== 'true')
            .map((e) => e.outerHTML.slice(0, 90))"""
    )
    assert nameless == []
    broken = page.run(
        """return ['aria-labelledby', 'aria-controls'].flatMap((name) => [...document.querySelectorAll(`[${name}]`)]
            .map((e) => e.getAttribute(name)).filter((id) => !document.getElementById(id)))"""
    )
    assert broken == []


# ---- Phone, dark mode, size, times


def test_a_phone_needs_no_horizontal_scrolling(page: Page) -> None:
    page.open(PHONE)
    for tab in ("#tab-draw", "#tab-pick"):
        page.find(tab).click()
        assert page.run("return document.documentElement.scrollWidth") == PHONE[0]
    assert not page.find("#detail").is_displayed()
    for index, layer in enumerate(page.run("return explore.layers.map((l) => l.name)")):
        element = page.map(layer, 0)
        page.run("arguments[0].scrollIntoView({block: 'start'})", element)
        x, y = page.run(
            "const a = arguments[0].getBoundingClientRect(); return [a.left + a.width / 2.2, a.top + a.height / 2.2]",
            element,
        )
        for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
            page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        assert page.find("#detail").is_displayed()
        assert page.text("#detail-title").startswith(layer)
        assert page.run("return explore.state.chosen.layer") == index
        assert page.run("return document.documentElement.scrollWidth") == PHONE[0]
        wide = page.run("const e = document.getElementById('detail'); return e.scrollWidth - e.clientWidth")
        assert wide <= 0, layer
        page.find("#close").click()
        assert not page.find("#detail").is_displayed()


def test_dark_mode_follows_the_system(page: Page) -> None:
    background = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    corner = """const c = document.querySelector('.map[data-layer=input] canvas');
        return [...c.getContext('2d').getImageData(0, 0, 1, 1).data]"""
    assert min(page.run(background)) > 200 and page.run(corner) == [255, 255, 255, 255]
    page.scheme("dark")
    page.settle()
    assert max(page.run(background)) < 50 and max(page.run(corner)[:3]) < 50
    page.open(scheme="dark")
    assert max(page.run(background)) < 50


def test_the_page_is_small_and_loads_nothing(page: Page, out: Path) -> None:
    assert (out / "explore.html").stat().st_size < 1.5e6
    page.run("explore.pick(5)")
    assert page.run("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    page.check_log()


def test_times_are_reported(page: Page) -> None:
    """The first view should take less than a second, and a redraw while drawing less than 30 ms."""
    first = page.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.run("explore.choose({layer: 3, row: 5, column: 5, map: 2})")
    page.find("#tab-draw").click()
    page.run("window.times = []; const t = setInterval(() => times.push(explore.state.redrawn), 5)")
    moves = page.actions().move_to_element_with_offset(page.find("#pad"), -60, -60).click_and_hold()
    for across, down in [(20, 0)] * 6 + [(-8, 20)] * 6:
        moves = moves.move_by_offset(across, down)
    moves.release().perform()
    times = sorted(set(page.run("return times")))
    assert first > 0 and times[0] > 0
    print(f"first view after {first:.0f} ms; redrawn in {np.median(times):.1f} ms, at most {times[-1]:.1f} ms")
