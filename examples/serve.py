"""An HTTP service that classifies images with a frozen network. It needs no TensorFlow.

    pip install '.[serve]'
    python examples/serve.py lenet-out/model.fastconv
    curl --data-binary @digit.png http://127.0.0.1:8000/classify

The network must have one input and one output. The input is images of shape (N, height, width, channels), with 1 or 3
channels and values from 0 to 1. The output is logits. `fastconv lenet --out lenet-out` writes such a network.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import fastconv
import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

MOST_BYTES = 1 << 20  # of a request's body
FORMATS = ("PNG", "JPEG")


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


async def read_body(request: Request) -> bytes:
    """The body of a request. Reading stops at the limit, whatever length the client has announced."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"the body must have at most {MOST_BYTES} bytes")
    if not body:
        raise HTTPException(400, "the body is empty; send the bytes of a PNG or JPEG image")
    return bytes(body)


def decode(body: bytes, height: int, width: int, channels: int) -> np.ndarray:
    """The image as an array of shape (1, height, width, channels), with values from 0 to 1."""
    try:
        image = Image.open(io.BytesIO(body), formats=FORMATS)  # reads only the header
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise HTTPException(415, "the body must be a PNG or JPEG image") from error
    if image.size != (width, height):
        raise HTTPException(422, f"the image must have {width} x {height} pixels, got {image.width} x {image.height}")
    try:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.float32)
    except (OSError, SyntaxError, ValueError) as error:
        raise HTTPException(400, f"the image is damaged: {error}") from error
    return pixels.reshape(1, height, width, channels) / np.float32(255)


def application(net: fastconv.Network) -> Starlette:
    """The service. Raises ValueError if the network does not classify images of a fixed size."""
    shapes = [tensor.shape for tensor in (*net.inputs, *net.outputs)]
    if [len(shape) for shape in shapes] != [4, 2] or None in shapes[0][1:] or shapes[0][3] not in (1, 3):
        raise ValueError(f"the network must map images of a fixed size with 1 or 3 channels to classes, got {net!r}")
    height, width, channels = shapes[0][1:]

    def predict(body: bytes) -> np.ndarray:
        return softmax(net(decode(body, height, width, channels).astype(net.dtype)))[0]

    async def classify(request: Request) -> JSONResponse:
        body = await read_body(request)
        probabilities = await run_in_threadpool(predict, body)  # other requests are served meanwhile
        return JSONResponse({"class": int(probabilities.argmax()), "probabilities": probabilities.tolist()})

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "image": [height, width, channels]})

    async def explain_error(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    routes = [Route("/classify", classify, methods=["POST"]), Route("/health", health)]
    net(np.zeros((1, height, width, channels), net.dtype))  # packs the filters before the first request
    return Starlette(routes=routes, exception_handlers={HTTPException: explain_error})


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify images over HTTP.")
    parser.add_argument("network", type=Path, help="a file that Network.save wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 chooses a free port")
    options = parser.parse_args()
    uvicorn.run(application(fastconv.load(options.network)), host=options.host, port=options.port, access_log=False)


if __name__ == "__main__":
    main()
