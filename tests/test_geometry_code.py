"""TensorFlow's graphs store geometries as codes. Every number of a code is checked when the code is read."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from fastconv import _core

FOLDER = Path(_core.__file__).parent
HEADERS = Path(__file__).parents[1] / "cpp" / "include"

PROGRAM = r"""
#include "fastconv/attributes.h"

#include <algorithm>
#include <cstdio>
#include <limits>

using namespace fastconv;

/// How many codes with one wrong number are accepted.
template <class Decode>
int taken(const Dims& good, Decode decode) {
    int count = 0;
    const std::int64_t least = std::numeric_limits<std::int64_t>::min();
    for (std::size_t i = 0; i < good.size(); ++i)
        for (const std::int64_t wrong : {std::int64_t{-1}, std::int64_t{-3}, least / 32, least}) {
            Dims code = good;
            code[i] = wrong;
            try {
                Attributes attributes;
                decode(code, attributes);
                std::printf("number %d may be %lld\n", static_cast<int>(i), static_cast<long long>(wrong));
                ++count;
            } catch (const InvalidArgument&) {
            }
        }
    return count;
}

/// Reads a code that was saved before poolings had dilations. Returns 0 if the newer arguments get their defaults.
int old_code() {
    Attributes attributes;
    PoolArguments& a = attributes.pooling;
    decode_pooling({0, 1, 1, 2, 3, 4, 5, 6, 1, 2, 0, 3}, attributes);
    const bool kept = a.format == DataFormat::nchw && attributes.include_batch_in_index && a.ksize == Pair{3, 4} &&
                      a.strides == Pair{5, 6} && a.padding.bottom == 2 && a.padding.right == 3;
    const bool defaults = a.dilations == Pair{1, 1} && !a.ceil_mode && !a.count_include_pad && !a.adaptive;
    const Dims now = encode_pooling(attributes), old{0, 1, 1, 2, 3, 4, 5, 6, 1, 2, 0, 3};
    const bool appended = std::equal(old.begin(), old.end(), now.begin());
    if (!kept || !defaults || !appended) std::printf("an old code is read wrongly\n");
    return kept && defaults && appended ? 0 : 1;
}

int main() {
    Attributes attributes;
    const Dims convolution = encode_convolution(attributes), pooling = encode_pooling(attributes);
    const Dims elementwise = encode_elementwise(attributes);
    decode_convolution(convolution, attributes);
    decode_pooling(pooling, attributes);
    decode_elementwise(elementwise, attributes);
    const int wrong = taken(elementwise, decode_elementwise);
    return wrong + taken(convolution, decode_convolution) + taken(pooling, decode_pooling) + old_code();
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_negative_numbers_are_refused_and_old_codes_are_read(tmp_path: Path) -> None:
    """One of the numbers is the index of the algorithm's name."""
    (tmp_path / "program.cpp").write_text(PROGRAM)
    command = ["g++", "-std=c++17", f"-I{HEADERS}", "program.cpp", "-o", "program"]
    library = [f"-L{FOLDER}", "-lfastconv", f"-Wl,-rpath,{FOLDER}"]
    subprocess.run([*command, *library], cwd=tmp_path, check=True, timeout=300)
    done = subprocess.run([str(tmp_path / "program")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
