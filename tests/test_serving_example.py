"""examples/serve.py as a server process with clients in several threads. It needs the packages of the extra `serve`."""

from __future__ import annotations

import http.client
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastconv
import numpy as np
import pytest
from fastconv.network import Graph
from PIL import Image
from processes import EXAMPLES, load_example

for package in ("starlette", "uvicorn"):
    pytest.importorskip(package, reason="pip install '.[serve]' installs what examples/serve.py needs")

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, CLASSES = 28, 28, 10
THREADS, REQUESTS = 8, 1000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small network with random weights."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> int:
        return graph.constant(random.normal(0, 0.3, shape).astype(np.float32))

    graph = Graph(np.dtype(np.float32))
    images = graph.input("images", (None, HEIGHT, WIDTH, 1))
    maps = graph.add("conv2d", [images, weights(3, 3, 1, 8), weights(8), None], (None, 26, 26, 8), activation=["relu"])
    pooled = graph.add("max_pool2d", [maps], (None, 13, 13, 8), ksize=[2, 2])
    flat = graph.add("reshape", [pooled], (None, 13 * 13 * 8), shape=[0, -1])
    logits = graph.add("dense", [flat, weights(13 * 13 * 8, CLASSES), weights(CLASSES), None], (None, CLASSES))
    graph.outputs.append(("logits", logits))
    file = tmp_path_factory.mktemp("serving") / "digits.fastconv"
    fastconv.Network(graph).save(file)
    return file


@pytest.fixture(scope="module")
def port(path: Path) -> Iterator[int]:
    """The port of a running server."""
    command = [sys.executable, str(EXAMPLES / "serve.py"), str(path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            log = ""
            while not (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", log)):
                line = server.stderr.readline()
                assert line, f"the server ended: {log}"
                log += line
            yield int(found[1])
        finally:
            server.terminate()
            server.communicate(timeout=60)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def ask(connection: http.client.HTTPConnection, method: str, place: str, body: Any = None) -> tuple[int, Any]:
    connection.request(method, place, body)
    answer = connection.getresponse()
    content = answer.read()
    return answer.status, json.loads(content)


@pytest.fixture
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    yield connection
    connection.close()


def test_a_thousand_requests_from_eight_threads_get_the_results_of_the_network(path: Path, port: int) -> None:
    coarse = np.random.default_rng(1).integers(0, 256, (REQUESTS, 4, 4), np.uint8)
    images = coarse.repeat(7, axis=1).repeat(7, axis=2)  # coarse squares, so that the network finds several classes
    net, softmax = fastconv.load(path), load_example("serve").softmax

    def classify(part: np.ndarray) -> list[Any]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        answers = [ask(connection, "POST", "/classify", png(image)) for image in part]
        connection.close()
        return answers

    with ThreadPoolExecutor(THREADS) as pool:
        answers = [answer for part in pool.map(classify, np.array_split(images, THREADS)) for answer in part]
    assert [status for status, _ in answers] == [200] * REQUESTS
    for image, (_, answer) in zip(images, answers, strict=True):
        expected = softmax(net(image[None, ..., None] / np.float32(255)))[0]
        np.testing.assert_array_equal(np.array(answer["probabilities"], np.float32), expected)
        assert answer["class"] == expected.argmax()
    assert len({answer["class"] for _, answer in answers}) > 1


def test_health_names_the_image_shape(connection: http.client.HTTPConnection) -> None:
    assert ask(connection, "GET", "/health") == (200, {"status": "ok", "image": [HEIGHT, WIDTH, 1]})


GOOD = png(np.zeros((HEIGHT, WIDTH), np.uint8))
NOISE = png(np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH), np.uint8))


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "the body is empty"),
        (b"no image", 415, "must be a PNG or JPEG image"),
        (png(np.zeros((20, 30), np.uint8)), 422, "must have 28 x 28 pixels, got 30 x 20"),
        (NOISE[: len(NOISE) // 2], 400, "the image is damaged"),
        (bytes((1 << 20) + 1), 413, "at most 1048576 bytes"),
    ],
    ids=["empty", "text", "size", "truncated", "large"],
)
def test_a_wrong_body_is_refused(body: bytes, status: int, says: str, connection: http.client.HTTPConnection) -> None:
    found, answer = ask(connection, "POST", "/classify", body)
    assert found == status
    assert says in answer["error"]
    connection.close()
    assert ask(connection, "POST", "/classify", GOOD)[0] == 200


def test_a_body_without_a_length_is_limited_too(connection: http.client.HTTPConnection) -> None:
    status, answer = ask(connection, "POST", "/classify", iter([bytes(1 << 16)] * 17))  # chunked
    assert status == 413 and "at most 1048576 bytes" in answer["error"]


@pytest.mark.parametrize(("method", "place", "status"), [("GET", "/classify", 405), ("GET", "/nowhere", 404)])
def test_wrong_requests_get_an_error(
    method: str, place: str, status: int, connection: http.client.HTTPConnection
) -> None:
    found, answer = ask(connection, method, place)
    assert found == status and answer["error"]


def test_other_networks_are_refused_at_the_start() -> None:
    graph = Graph(np.dtype(np.float32))
    signal = graph.input("signal", (None, 100))
    graph.outputs.append(("output", graph.add("activate", [signal], (None, 100), activation=["relu"])))
    with pytest.raises(ValueError, match="the network must map images"):
        load_example("serve").application(fastconv.Network(graph))
