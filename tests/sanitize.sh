#!/usr/bin/env bash
# The kernel and NumPy tests under AddressSanitizer and UndefinedBehaviorSanitizer: bash tests/sanitize.sh [pytest options]
#
# Builds the package with both into build/sanitize and runs the tests there. Needs a Python with the build and test
# dependencies (variable PYTHON, default python3) and a GCC with its sanitizers.
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

# Python leaks by design, so leaks are not reported. Python was not built with the sanitizers, so their runtime is
# loaded first. It wraps the C++ library's throw, so this library is loaded with it. Reports go to files, because
# pytest's captured output is lost when the process dies. The quarantine of freed memory is small: otherwise every array
# gets fresh pages, which takes longer than the tests.
rm -f build/sanitize/report.*
report="log_path=$PWD/build/sanitize/report"
status=0
# There are more OpenMP threads than cores, and the sanitizers slow them down, so waiting threads must not spin.
env OMP_WAIT_POLICY=passive LD_PRELOAD="$libasan $("$compiler" -print-file-name=libstdc++.so)" PYTHONPATH="$site" PYTHONDONTWRITEBYTECODE=1 \
  ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16:$report" \
  UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:$report" \
  "$python" -m pytest -p no:cacheprovider --timeout 3000 --problems 40 \
  tests/test_against_reference.py tests/test_drawn_geometries.py tests/test_finite_differences.py \
  tests/test_conv_max_pool.py tests/test_special_values.py tests/test_memory_bounds.py \
  tests/test_array_memory.py tests/test_argument_forms.py tests/test_related_functions.py tests/test_argmax.py \
  tests/test_empty_arrays.py tests/test_extreme_sizes.py tests/test_conv_output_size.py tests/test_package.py \
  tests/test_bad_*.py tests/test_network_operations.py tests/test_network_file.py "$@" || status=$?
if ((status)); then
  tail -n 100 build/sanitize/report.* >&2 || true
fi
exit "$status"
