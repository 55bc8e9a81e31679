# A CMake toolchain file for wheels: compiles with GCC, and links with zig's linker against an old glibc, so that the
# libraries run on old Linux systems (`pip install ziglang`). `nox -s wheels` uses it.
#
# FASTCONV_CPU:   x86_64 or aarch64. For the CPU that is not this machine's, a GCC that compiles for it is needed:
#                 g++-aarch64-linux-gnu or g++-x86-64-linux-gnu of Debian and Ubuntu.
# FASTCONV_GLIBC: the oldest version of glibc that the libraries shall run with.
#
# GCC's C++ library becomes part of each library, since that of an old system lacks functions. zig's own C++ library would
# not do: an exception of one library is not caught in another one.
# There is no OpenMP: GCC's OpenMP library needs a new glibc. The thread pool is used.
set(FASTCONV_CPU "${CMAKE_HOST_SYSTEM_PROCESSOR}" CACHE STRING "x86_64 or aarch64")
set(FASTCONV_GLIBC 2.28 CACHE STRING "The oldest glibc that the libraries shall run with")
# CMake reads this file again for each program that it compiles to test the compiler.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FASTCONV_CPU FASTCONV_GLIBC)

set(gcc g++)
if(NOT FASTCONV_CPU STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR)
  set(CMAKE_SYSTEM_NAME Linux)
  set(CMAKE_SYSTEM_PROCESSOR "${FASTCONV_CPU}")
  set(gcc "${FASTCONV_CPU}-linux-gnu-g++")
  # Otherwise pybind11 gives the extension the name that it has on this machine.
  set(PYBIND11_USE_CROSSCOMPILING ON)
endif()
find_program(FASTCONV_GCC "${gcc}" REQUIRED)
find_program(FASTCONV_ZIG NAMES python-zig zig REQUIRED)
set(CMAKE_CXX_COMPILER "${FASTCONV_GCC}")

foreach(file IN ITEMS libstdc++.a libgcc.a libgcc_s.so.1)
  execute_process(
    COMMAND "${FASTCONV_GCC}" "-print-file-name=${file}" OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE)
  string(APPEND gcc_libraries " \"${path}\"")
endforeach()
# A Python extension (MODULE) lacks Python's functions until Python loads it. A library must lack none.
set(check_LIBRARY " -Wl,-z,defs")
foreach(kind IN ITEMS LIBRARY MODULE)
  # -s: the names of functions are a tenth of a library.
  string(CONCAT CMAKE_CXX_CREATE_SHARED_${kind}
    "\"${FASTCONV_ZIG}\" cc -target ${FASTCONV_CPU}-linux-gnu.${FASTCONV_GLIBC} -mcpu=baseline -shared -s${check_${kind}}"
    " -Wl,--gc-sections \"-Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/exports.map\" <SONAME_FLAG><TARGET_SONAME>"
    " -o <TARGET> <OBJECTS> <LINK_LIBRARIES> \"${CMAKE_CURRENT_LIST_DIR}/old_glibc.c\" ${gcc_libraries}"
    " -lpthread -lm -ldl")
endforeach()

set(CMAKE_DISABLE_FIND_PACKAGE_OpenMP ON)
# The linker knows no GCC files for optimisation at link time, which pybind11 would otherwise ask for.
set(CMAKE_INTERPROCEDURAL_OPTIMIZATION OFF)
# pybind11 would strip the extension with this machine's program, which may not know the other CPU.
set(CMAKE_STRIP "" CACHE FILEPATH "")
