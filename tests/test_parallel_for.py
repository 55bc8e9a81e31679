"""C++ programs that test `parallel_for`: a task that throws, an OpenMP region that is late, and CPU affinities."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "cpp"
COMPILER = shutil.which("g++") or shutil.which("clang++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")

FAILING_TASK = r"""
#include "core/threads/parallel_for.h"
#include "fastconv/threads.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <thread>

int main() {
    fastconv::set_num_threads(3);
    std::atomic<int> started{0}, failed{0};
    try {
        fastconv::parallel_for(3000, 1e9, [&](std::int64_t) {
            ++started;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            if (started > 20 && failed.exchange(1) == 0) {
                throw std::runtime_error("a task");
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        });
    } catch (const std::runtime_error&) {
        std::printf("%d started, %d failed\n", started.load(), failed.load());
        return started < 40 ? 0 : 1;
    }
    return 2;
}
"""

# The worker moves away from its caller's CPU. While it moves, other code restricts it to one CPU.
MOVING_WORKER = r"""
#include "core/threads/parallel_for.h"
#include "fastconv/threads.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <sched.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace {
std::atomic<int> first_cpu{0}, moved{0};
std::atomic<pid_t> worker{0};

int set(pid_t thread, std::size_t size, const cpu_set_t* mask) {
    return static_cast<int>(syscall(SYS_sched_setaffinity, thread, size, mask));
}
} // namespace

extern "C" int sched_getcpu() noexcept { return first_cpu; }

extern "C" int sched_setaffinity(pid_t thread, std::size_t size, const cpu_set_t* mask) noexcept {
    const int result = set(thread, size, mask);
    if (moved++ > 0) return result;
    worker = gettid();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first_cpu, &one);
    set(worker, sizeof one, &one);
    return result;
}

int main() {
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    while (!CPU_ISSET(first_cpu, &allowed)) ++first_cpu;
    fastconv::set_num_threads(2);
    for (int i = 0; i < 100 && worker == 0; ++i)
        fastconv::parallel_for(
            64, 1e9, [](std::int64_t) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); });
    if (worker == 0) return 2;
    cpu_set_t mask;
    sched_getaffinity(worker, sizeof mask, &mask);
    std::printf("%d CPUs\n", CPU_COUNT(&mask));
    return CPU_COUNT(&mask) == 1 && CPU_ISSET(first_cpu, &mask) ? 0 : 1;
}
"""

# Replaces OpenMP's runtime and the clock, so that a parallel region is late by a given time however busy the CPUs are.
# Of three jobs, the first starts OpenMP's threads, the second is late, and the pool may run the third.
LATE_REGION = r"""
#include "core/threads/parallel_for.h"
#include "fastconv/threads.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

namespace {
std::atomic<long> microseconds{0};
int regions = 0;

void pass_time(const char* where) {
    if (std::getenv("WAIT") == std::string(where)) microseconds += 10000;
}
} // namespace

extern "C" int clock_gettime(clockid_t, timespec* time) noexcept {
    const long now = ++microseconds;
    time->tv_sec = now / 1000000;
    time->tv_nsec = now % 1000000 * 1000;
    return 0;
}

extern "C" void GOMP_parallel(void (*body)(void*), void* data, unsigned, unsigned) {
    ++regions;
    pass_time("before");
    body(data); // the first call runs all tasks
    pass_time("between");
    body(data);
    pass_time("after");
}

int main() {
    fastconv::set_num_threads(2);
    for (int i = 0; i < 3; ++i)
        fastconv::parallel_for(8, 1e9, [](std::int64_t) { pass_time("in a task"); });
    std::printf("%d regions\n", regions);
    return regions == std::atoi(std::getenv("REGIONS")) ? 0 : 1;
}
"""


def build_program(folder: Path, text: str, *options: str) -> Path:
    """Build the program with the sources of `parallel_for`."""
    (folder / "program.cpp").write_text(text)
    files = [*sorted((SOURCES / "core" / "threads").glob("*.cpp")), SOURCES / "core" / "environment.cpp"]
    command = [str(COMPILER), "-std=gnu++17", "-pthread", *options, f"-I{SOURCES}", f"-I{SOURCES / 'include'}"]
    command += ["program.cpp", *map(str, files), "-o", "program"]
    subprocess.run(command, cwd=folder, check=True, timeout=600)
    return folder / "program"


def run_program(program: Path, **environment: str) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FASTCONV_")}
    done = subprocess.run(
        [str(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**variables, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def failing_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_program(tmp_path_factory.mktemp("failing_task"), FAILING_TASK, "-fopenmp")


@pytest.mark.parametrize("backend", ["openmp", "pool"])
def test_a_failed_task_stops_the_others(backend: str, failing_task: Path) -> None:
    run_program(failing_task, FASTCONV_THREADING=backend)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="not Linux")
def test_a_worker_keeps_an_affinity_that_was_set_while_it_moved(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    run_program(build_program(tmp_path, MOVING_WORKER), FASTCONV_THREADING="pool")


@pytest.fixture(scope="module")
def late_region(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if Path(str(COMPILER)).name != "g++":
        pytest.skip("the program replaces functions of GCC's OpenMP")
    return build_program(tmp_path_factory.mktemp("late_region"), LATE_REGION, "-fopenmp")


@pytest.mark.parametrize(("wait", "regions"), [("before", 2), ("between", 2), ("after", 2), ("in a task", 3), ("", 3)])
def test_the_pool_runs_a_job_only_after_a_late_region(wait: str, regions: int, late_region: Path) -> None:
    """An OpenMP thread may have to wait before its work, or after it. A long task does not make a region late."""
    run_program(late_region, WAIT=wait, REGIONS=str(regions))


@pytest.mark.parametrize("wait", ["before", "between", "after"])
def test_openmp_runs_the_job_after_a_late_region_if_the_environment_names_it(wait: str, late_region: Path) -> None:
    run_program(late_region, WAIT=wait, REGIONS="3", FASTCONV_THREADING="openmp")
