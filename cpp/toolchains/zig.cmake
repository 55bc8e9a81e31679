# A CMake toolchain file: compiles for another system with zig's Clang, which brings the C and C++ libraries of all
# targets (`pip install ziglang`).
#
#   cmake -S . -B build/aarch64 -D CMAKE_TOOLCHAIN_FILE=cpp/toolchains/zig.cmake \
#     -D FASTCONV_ZIG_TARGET=aarch64-linux-gnu.2.28
#
# FASTCONV_ZIG_TARGET: CPU, system and C library, for example x86_64-linux-gnu.2.28 or aarch64-macos. The number is the
#                      oldest version of glibc that the library shall run with.
# FASTCONV_ZIG_CPU:    the oldest CPU that code outside the kernels shall run on. The default is every CPU of the target.
#
# zig has no OpenMP: such a library uses the thread pool. Each library has its own copy of zig's C++ library, so errors of
# fastconv reach Python as RuntimeError. Use this to see that the sources compile; manylinux.cmake is for wheels.
set(FASTCONV_ZIG_CPU baseline CACHE STRING "The oldest CPU, by its name in `zig targets`")
if(NOT FASTCONV_ZIG_TARGET)
  message(FATAL_ERROR "FASTCONV_ZIG_TARGET must name a target of zig, for example aarch64-linux-gnu.2.28")
endif()
# CMake reads this file again for each program that it compiles to test the compiler.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FASTCONV_ZIG_TARGET FASTCONV_ZIG_CPU)

string(REGEX MATCH "^([^-]+)-([^-]+)" both "${FASTCONV_ZIG_TARGET}")
set(CMAKE_SYSTEM_PROCESSOR "${CMAKE_MATCH_1}")
if(CMAKE_MATCH_2 STREQUAL "macos")
  set(CMAKE_SYSTEM_NAME Darwin)
else()
  set(CMAKE_SYSTEM_NAME Linux)
endif()

find_program(FASTCONV_ZIG NAMES python-zig zig REQUIRED)
set(CMAKE_CXX_COMPILER
  "${FASTCONV_ZIG}" c++ -target "${FASTCONV_ZIG_TARGET}" "-mcpu=${FASTCONV_ZIG_CPU}")
# Without -S, the C++ library adds seven megabytes of debugging information. zig removes the names of functions, too.
set(CMAKE_CXX_FLAGS_INIT -g0)
set(CMAKE_SHARED_LINKER_FLAGS_INIT -Wl,-S)
set(CMAKE_MODULE_LINKER_FLAGS_INIT -Wl,-S)
# pybind11 would strip the extension with this machine's program, which may not know the target's format.
set(CMAKE_STRIP "" CACHE FILEPATH "")
