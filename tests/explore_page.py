"""The page explore.html in a browser that Selenium drives."""

from __future__ import annotations

from typing import Any

import numpy as np

DESKTOP, PHONE = (1440, 1000), (360, 760)


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def open(self, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> None:
        width, height = size
        self.scheme(scheme)
        phone = size == PHONE
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone, "maxTouchPoints": 1})
        self.driver.get(self.address)
        self.check_log()

    def check_log(self) -> None:
        """No error, and nothing refused by the content security policy."""
        entries = self.driver.get_log("browser")
        # Chromium's advice on canvases that are read often, as this test does.
        assert [entry for entry in entries if "willReadFrequently" not in entry["message"]] == []

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def values(self, selector: str) -> list[float]:
        """The unrounded numbers of elements of the panel."""
        found = self.run(
            "return [...document.querySelectorAll('#detail-content ' + arguments[0])].map((e) => e.dataset.value)",
            selector,
        )
        return [float(value) for value in found]

    def map(self, layer: str, map_index: int = 0) -> Any:
        return self.find(f'.map[data-layer="{layer}"][data-map="{map_index}"]')

    def hover(self, layer: str, map_index: int, row: int, column: int, click: bool = False) -> None:
        """Point at a value of a map. `shape` gives the numbers of rows and columns."""
        element = self.map(layer, map_index)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        rows, columns = self.shape(layer)
        area = self.run("const a = arguments[0].getBoundingClientRect(); return [a.width, a.height]", element)
        # Offsets count from the middle of the element.
        across = round(((column + 0.5) / columns - 0.5) * area[0])
        down = round(((row + 0.5) / rows - 0.5) * area[1])
        moves = self.actions().move_to_element_with_offset(element, across, down)
        (moves.click() if click else moves).perform()

    def shape(self, layer: str) -> tuple[int, int]:
        rows, columns = self.run(
            "const l = explore.layers.find((l) => l.name === arguments[0]); return [l.rows, l.columns]", layer
        )
        return rows, columns

    def actions(self) -> Any:
        from selenium.webdriver.common.action_chains import ActionChains

        return ActionChains(self.driver, duration=20)

    def press(self, *keys: str) -> None:
        self.actions().send_keys(*keys).perform()

    def pixels(self) -> np.ndarray:
        return np.array(self.run("return [...explore.state.pixels]"), np.float32).reshape(28, 28)

    def outputs(self) -> list[np.ndarray]:
        """What the page computed for its image, layer by layer."""
        return [
            np.array(values, np.float32)
            for values in self.run("return explore.state.result.outputs.map((o) => [...o])")
        ]

    def outlines(self, kind: str) -> list[tuple[str, int, list[float]]]:
        """The outlines that are visible: layer, map, and left, top, width and height in values of the map."""
        found = self.run(
            """return [...document.querySelectorAll('.map')].flatMap((map) => {
                const outline = map.querySelector('.outline.' + arguments[0]);
                if (outline.hidden) return [];
                const layer = explore.layers.find((l) => l.name === map.dataset.layer);
                const part = (name, whole) => parseFloat(outline.style[name]) / 100 * whole;
                return [[layer.name, +map.dataset.map, [part('left', layer.columns), part('top', layer.rows),
                  part('width', layer.columns), part('height', layer.rows)]]];
            })""",
            kind,
        )
        return [(layer, number, [round(part, 3) for part in box]) for layer, number, box in found]

    def settle(self) -> None:
        """Wait for two frames: the network follows the pad in the next frame."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )
