"""`fastconv explain` prints the sizes, the work and the algorithm that a call would have."""

from __future__ import annotations

import re
from pathlib import Path

import fastconv
import numpy as np
import pytest


def explain(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[tuple[str, str]]:
    from fastconv.__main__ import main

    assert main(["explain", *arguments]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    return [(line[:17].strip(), line[17:]) if ":" not in line[:17] else (line, "") for line in lines]


CALLS = [
    ("8x56x56x64 3x3x64x128", "--strides 2 --padding SAME", {"strides": 2, "padding": "SAME"}),
    ("28x28 3x3x1x6", "", {}),
    ("2x9x7x4 5x3x2x6", "--strides 2x1 --padding 2x0", {"strides": (2, 1), "padding": (2, 0)}),
    (
        "1x20x20x3 3x3x3x5",
        "--padding 0,1,2,3 --dilations 2x3 --dtype float64",
        {"padding": ((0, 1), (2, 3)), "dilations": (2, 3)},
    ),
    ("1x3x20x20 3x3x3x5", "--data-format NCHW --padding 1", {"padding": 1, "data_format": "NCHW"}),
    ("2x16x16x4 3x3x4x2", "--depthwise --padding same --strides 2", {"padding": "SAME", "strides": 2}),
    ("1x5x5x1 3x3x1x1", "--padding SAME --strides 7", {"padding": "SAME", "strides": 7}),
]


@pytest.mark.parametrize(("shapes", "options", "keywords"), CALLS, ids=[call[0] for call in CALLS])
def test_it_says_what_the_call_does(
    shapes: str, options: str, keywords: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    printed = explain(capsys, *shapes.split(), *options.split())
    found = dict(reversed(printed))  # the first of two lines of the same name
    input_shape, filters = (tuple(map(int, word.split("x"))) for word in shapes.split())
    if len(input_shape) == 2:
        input_shape = (1, *input_shape, filters[2])
    dtype = np.float64 if "float64" in options else np.float32
    convolve = fastconv.depthwise_conv2d if "--depthwise" in options else fastconv.conv2d
    result = convolve(np.zeros(input_shape, dtype), np.zeros(filters, dtype), **keywords)  # type: ignore[arg-type]
    assert found["output"] == " x ".join(map(str, result.shape))
    first = 1 if keywords.get("data_format") != "NCHW" else 2
    for name, size in zip(("output height", "output width"), result.shape[first : first + 2], strict=True):
        formula, value = found[name].split(" = ")
        assert int(value) == size
        assert eval(formula.replace("/", "//"), {"floor": int}) == size
    work = re.fullmatch(r"(.+) = ([\d,]+), or .+FLOP with the additions", found["multiplications"])
    assert work is not None
    product, value = work.groups()
    channels = 1 if "--depthwise" in options else filters[2]
    count = result.size * filters[0] * filters[1] * channels
    assert eval(product.replace("x", "*")) == int(value.replace(",", "")) == count
    parameters = re.fullmatch(r".+ = ([\d,]+), and ([\d,]+) more with a bias", found["parameters"])
    assert parameters is not None
    channels_out = result.shape[-1 if first == 1 else 1]
    assert [int(n.replace(",", "")) for n in parameters.groups()] == [np.prod(filters), channels_out]
    memory = dict(re.findall(r"(\w+) ([\d.]+ \w+)", found["memory"]))
    units = {"bytes": 1, "KiB": 1024, "MiB": 1024**2}
    for name, size in (("input", np.prod(input_shape)), ("filters", np.prod(filters)), ("output", result.size)):
        number, unit = memory[name].split()
        assert float(number) * units[unit] == pytest.approx(size * np.dtype(dtype).itemsize, rel=1e-3)


def test_all_directions_have_their_algorithms(capsys: pytest.CaptureFixture[str]) -> None:
    shapes = (8, 56, 56, 64), (3, 3, 64, 64)
    printed = explain(capsys, "8x56x56x64", "3x3x64x64", "--padding", "1", "--direction", "all")
    algorithms = [text for name, text in printed if name == "algorithm"]
    work = [text for name, text in printed if name == "multiplications"][1:]
    for i, direction in enumerate(("forward", "input gradient", "filter gradient")):
        expected = fastconv.explain(*shapes, padding=1, direction=direction)  # type: ignore[arg-type]
        assert algorithms[i] == f"{expected.algorithm}, kernel {expected.kernel}, {expected.isa}"
        assert int(work[i].split()[0].replace(",", "")) == pytest.approx(expected.multiplications, abs=1)
    one = explain(capsys, "8x56x56x64", "3x3x64x64", "--direction", "filter-gradient", "--algorithm", "direct")
    assert ("filter gradient: an array of the filters' shape", "") in one
    assert [text.split(",")[0] for name, text in one if name == "algorithm"] == ["direct"]
    empty = explain(capsys, "0x28x28x1", "3x3x1x6")
    assert ("algorithm", "none: there is nothing to compute") in empty


def test_the_page_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Up to the empty line. The lines after it depend on the machine."""
    page = (Path(__file__).parents[1] / "docs" / "command_line.md").read_text(encoding="utf-8")
    match = re.search(r"```sh\nfastconv (explain [^\n]*)\n```\n\n```text\n(.*?)\n\n", page, re.DOTALL)
    assert match is not None
    from fastconv.__main__ import main

    main(match[1].split())
    assert capsys.readouterr().out.split("\n\n")[0] == match[2]


def test_errors_name_the_argument(capsys: pytest.CaptureFixture[str]) -> None:
    from fastconv.__main__ import main

    for arguments, says in [
        (["8x56x56", "3x3x1x1"], "argument INPUT: must be 2 or 4 whole numbers joined by 'x', such as 8x56x56x64"),
        (["28x28", "3x3"], "argument FILTERS: must be 4 whole numbers"),
        (["28x28", "3x3x1x6", "--strides", "a"], "argument --strides: must be 1 or 2 whole numbers joined by 'x'"),
        (["28x28", "3x3x1x6", "--padding", "1,2"], "argument --padding: must be VALID, SAME, a number, HEIGHTxWIDTH"),
        (["28x28", "3x3x1x6", "--direction", "back"], "argument --direction: invalid choice: 'back'"),
    ]:
        with pytest.raises(SystemExit) as exit_code:
            main(["explain", *arguments])
        assert exit_code.value.code == 2
        assert says in capsys.readouterr().err
    for arguments, says in [
        (["3x3", "5x5x1x6"], "the output height is negative"),
        (["1x28x28x4", "3x3x3x6"], "FILTERS must have 4 input channels in dimension 2"),
        (["1x28x28x4", "3x3x3x6"], "got FILTERS (3, 3, 3, 6) and INPUT (1, 28, 28, 4) in NHWC"),
        (["28x28", "3x3x1x6", "--strides", "0"], "strides"),
        (["28x28", "3x3x1x6", "--algorithm", "winograd", "--strides", "2"], "winograd"),
        (["99999999999999999999x28", "3x3x1x6"], ""),
    ]:
        try:
            assert main(["explain", *arguments]) == 1
        except SystemExit as exit_code:
            assert exit_code.code == 2
        error = capsys.readouterr().err
        assert says in error and "Traceback" not in error


@pytest.mark.parametrize("command", [[], ["lenet"], ["predict"], ["explain"], ["bench"], ["config"]])
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from fastconv.__main__ import main

    with pytest.raises(SystemExit) as exit_code:
        main([*command, "--help"])
    assert exit_code.value.code == 0
    text = capsys.readouterr().out
    shown = text.split("examples:\n")[1].splitlines()
    assert len(shown) >= 2 and all(re.match(r"  (\w+=\w+ )?fastconv ", line) for line in shown)
    if command == ["explain"]:
        for line in shown:
            assert main(line.split()[1:]) == 0
