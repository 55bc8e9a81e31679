#!/usr/bin/env bash
# The kernel and NumPy tests under AddressSanitizer and UndefinedBehaviorSanitizer: bash tests/sanitize.sh [pytest options]
#
# Builds the package with both into build/sanitize and runs the tests there. Wants the Python that has the build and
# test dependencies (variable PYTHON, default python3) and a GCC that has its sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
compiler="${CXX:-g++}"
site="$PWD/build/sanitize/site"

libasan="$("$compiler" -print-file-name=libasan.so)"
if [[ ! -e "$libasan" ]]; then
  echo "sanitize.sh: $compiler has no libasan.so; install GCC's sanitizers or name another GCC in CXX" >&2
  exit 1
fi
"$python" -m pip install --quiet --no-deps --no-build-isolation --upgrade --target "$site" . \
  -C build-dir=build/sanitize/cmake -C cmake.build-type=None -C cmake.define.CMAKE_CXX_FLAGS=-O1 \
  -C cmake.define.CMAKE_CXX_COMPILER="$compiler" -C cmake.define.FASTCONV_SANITIZE=address,undefined

# Python itself leaks by design, and the runtime must come first in a process that was not built with it; beside it the
# C++ library, whose throw the runtime wraps. Reports go to files, since pytest would take what a dying process says to
# its grave. A small quarantine: a fresh page for each array costs more than the tests.
rm -f build/sanitize/report.*
report="log_path=$PWD/build/sanitize/report"
status=0
# More OpenMP threads than cores, and each of them slow: they had better not spin.
env OMP_WAIT_POLICY=passive LD_PRELOAD="$libasan $("$compiler" -print-file-name=libstdc++.so)" PYTHONPATH="$site" PYTHONDONTWRITEBYTECODE=1 \
  ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16:$report" \
  UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:$report" \
  "$python" -m pytest -p no:cacheprovider --timeout 3000 --problems 40 \
  tests/test_against_reference.py tests/test_special_values.py tests/test_memory_bounds.py \
  tests/test_numpy_face.py tests/test_bad_input.py "$@" || status=$?
if ((status)); then
  tail -n 100 build/sanitize/report.* >&2 || true
fi
exit "$status"
