"""Takes explore.png, the picture of explore.html in the README and in lenet.md, from a page of a trained network:

    fastconv lenet --out lenet-out
    python docs/make_explore.py lenet-out/explore.html

It needs Selenium, Pillow, and Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

WIDTH, HEIGHT, SCALE = 1200, 890, 1.4
DIGIT, LAYER, MAP = 73, "conv2", 1  # the digit and the map that are looked at


def main(page: Path, picture: Path) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": SCALE, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        driver.get(page.resolve().as_uri())
        driver.execute_script("explore.pick(arguments[0])", DIGIT)
        values = driver.find_element("css selector", f'.map[data-layer="{LAYER}"][data-map="{MAP}"]')
        ActionChains(driver).move_to_element(values).click().perform()
        driver.execute_script("scrollTo(0, 0)")
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    finally:
        driver.quit()
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    image.quantize(208, dither=Image.Dither.NONE).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("explore.png"))
