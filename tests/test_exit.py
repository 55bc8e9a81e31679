"""Operations still compute while the process ends, on the main thread and on other threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastconv import _core
from processes import TIMEOUT
from thread_jobs import BACKENDS

HEADERS = Path(__file__).parents[1] / "cpp" / "include"
FOLDER = Path(_core.__file__).parent

PROGRAM = r"""
#include "fastconv/c_api.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZE = 14, FILTERS = 8, OUT = SIZE - 2 };
static float image[SIZE * SIZE], filters[9 * FILTERS], expected[OUT * OUT * FILTERS];

static int convolve(float* result) {
    fastconv_tensor inputs[3] = {{FASTCONV_FLOAT32, 4, {1, SIZE, SIZE, 1}, image},
                                 {FASTCONV_FLOAT32, 4, {3, 3, 1, FILTERS}, filters},
                                 {FASTCONV_NONE, 0, {0}, NULL}};
    fastconv_tensor output = {FASTCONV_FLOAT32, 4, {1, OUT, OUT, FILTERS}, result};
    char message[200];
    if (fastconv_run("conv2d", inputs, 3, NULL, 0, &output, 1, message, sizeof message) == FASTCONV_OK) return 0;
    printf("refused: %s\n", message);
    return 1;
}

static int fails(void) {
    float result[OUT * OUT * FILTERS];
    if (convolve(result)) return 1;
    if (memcmp(result, expected, sizeof result) == 0) return 0;
    puts("wrong");
    return 1;
}

static void* compute(void* unused) {
    while (!fails()) {}
    fflush(stdout);
    _exit(1);
    return unused;
}

/* Registered first, it runs last: after the library's static objects are gone, if there are any. */
static void last(void) {
    /* Memory that the library has freed gets other values. */
    for (int size = 16; size < 4096; size += 16) memset(malloc(size), 0x5A, size);
    for (int i = 0; i < 100; ++i) {
        if (fails()) {
            fflush(stdout);
            _exit(1);
        }
    }
    usleep(50000);
    puts("computed");
}

int main(void) {
    atexit(last);
    for (int i = 0; i < SIZE * SIZE; ++i) image[i] = (float)(i % 7);
    for (int i = 0; i < 9 * FILTERS; ++i) filters[i] = (float)(i % 5);
    if (convolve(expected)) return 1;
    pthread_t threads[2];
    for (int i = 0; i < 2; ++i) pthread_create(&threads[i], NULL, compute, NULL);
    usleep(10000);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_operations_compute_while_the_process_ends(tmp_path: Path) -> None:
    (tmp_path / "program.c").write_text(PROGRAM)
    command = ["gcc", "-std=gnu11", "-Wall", "-Werror", f"-I{HEADERS}", "program.c", "-o", "program", "-pthread"]
    library = [f"-L{FOLDER}", "-lfastconv", f"-Wl,-rpath,{FOLDER}"]
    subprocess.run([*command, *library], cwd=tmp_path, check=True, timeout=120)
    done = subprocess.run([str(tmp_path / "program")], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "computed\n"), done.stderr


DAEMON = """
import threading

import fastconv
import numpy as np

x, w = np.ones((8, 64, 64, 32), np.float32), np.ones((3, 3, 32, 64), np.float32)
started = threading.Event()


def compute():
    while True:
        fastconv.conv2d(x, w)
        started.set()


for _ in range(2):
    threading.Thread(target=compute, daemon=True).start()
started.wait()
raise SystemExit(7)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_daemon_threads_compute_while_python_ends(backend: str) -> None:
    environment = {**os.environ, "FASTCONV_THREADING": backend}
    done = subprocess.run(
        [sys.executable, "-c", DAEMON], env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert (done.returncode, done.stderr) == (7, "")
