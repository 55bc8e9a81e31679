"""`fastconv bench` times what it says, compares results first, and refuses what does not fit in one line."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import fastconv
import numpy as np
import pytest
from fastconv._commands import bench
from fastconv._commands.bench_process import Contestant
from fastconv._commands.contestants import NotComputed
from fastconv._commands.layer import DIRECTIONS, Layer
from processes import TIMEOUT

TINY = ("1x16x16x1", "3x3x1x1", "--padding", "SAME")
DIRECTION_NAMES = tuple(DIRECTIONS.values())


@pytest.fixture(autouse=True)
def without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)


def run(*arguments: str) -> int:
    from fastconv.__main__ import main

    return main(["bench", *arguments])


def table(text: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the only table. Columns are two spaces apart."""
    lines = text.split("\n\n")[1].splitlines()
    assert set(lines[2]) == {"-"}
    heading, *rows = (re.split(r"  +", line) for line in (lines[1], *lines[3:]))
    return heading, rows


def test_the_numbers_of_a_line_belong_together(capsys: pytest.CaptureFixture[str]) -> None:
    layer = Layer((4, 12, 10, 8), (3, 3, 8, 16), padding=1)
    assert run("4x12x10x8", "3x3x8x16", "--padding", "1", "--peer", "none") == 0
    captured = capsys.readouterr()
    assert captured.err == ""  # it is no terminal
    config = fastconv.show_config("dicts")
    assert captured.out.startswith(f"fastconv {fastconv.__version__}; {config['isa']}, {config['threads']} thread")
    assert "\n4x12x10x8 3x3x8x16 --padding 1\n" in captured.out
    heading, rows = table(captured.out)
    assert heading == ["direction", "algorithm", "ms", "spread", "GFLOP/s", "of peak"]
    assert [row[0] for row in rows] == [*DIRECTION_NAMES]
    for direction, (_, algorithm, ms, spread, speed, peak) in zip(DIRECTION_NAMES, rows, strict=True):
        assert algorithm == layer.explain(direction).algorithm
        assert float(ms) * float(speed) * 1e6 == pytest.approx(2 * 4 * 12 * 10 * 9 * 8 * 16, rel=0.02)
        assert spread.endswith("%") and float(peak.rstrip("%")) > 0


def test_scipy_is_timed_where_it_computes_the_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*TINY, "--peer", "scipy", "--rounds", "3") == 0
    text = capsys.readouterr().out
    heading, rows = table(text)
    assert heading[-1] == "scipy ms"
    found = re.fullmatch(r"([\d.]+) \(([\d.]+)x\)", rows[0][-1])
    assert found is not None
    assert float(found[1]) / float(rows[0][2]) == pytest.approx(float(found[2]), rel=0.02)
    assert [row[-1] for row in rows[1:]] == ["-", "-"]
    assert re.search(r"\n\nnot timed:\n  scipy: SciPy computes forward passes of one channel .+\n$", text)


def test_results_are_compared() -> None:
    right = np.random.default_rng(0).standard_normal((2, 3, 4, 5), np.float32)
    assert bench._same(right * np.float32(1 + 1e-5), right)
    for value in (right[0, 1, 2, 3] + 0.01, np.nan, np.inf):
        wrong = right.copy()
        wrong[0, 1, 2, 3] = value
        assert not bench._same(wrong, right)
    assert not bench._same(right[:1], right)


@pytest.mark.slow
def test_a_wrong_result_is_an_error_and_is_not_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Contestant.prepare

    def wrong(self: Contestant, *arguments: object) -> object:
        results = prepare(self, *arguments)  # type: ignore[arg-type]
        if self.name == "scipy":
            results[1][1][0, 3, 3, 0] += 0.1
        return results

    monkeypatch.setattr(Contestant, "prepare", wrong)
    assert run(*TINY, "--direction", "forward", "--peer", "scipy", "--rounds", "3") == 1
    captured = capsys.readouterr()
    assert "scipy ms" not in captured.out and "forward" in captured.out
    assert captured.err == (
        "fastconv: results differ by more than rounding errors: scipy correlate by FFT, forward of 1x16x16x1 "
        "3x3x1x1 --padding SAME\n"
    )


@pytest.mark.parametrize(
    ("code", "says"),
    [("raise ImportError('no libfortran')", "ImportError: no libfortran"), ("import os; os._exit(3)", "has ended")],
)
def test_a_broken_library_is_named(
    code: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scipy.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert run(*TINY, "--peer", "scipy") == 1
    error = capsys.readouterr().err
    assert error.startswith("fastconv: scipy cannot be imported: ") and says in error and error.count("\n") == 1


def test_a_peer_that_is_not_installed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(*TINY, "--peer", "torch") == 1
    assert capsys.readouterr().err == ("fastconv: --peer torch: this library is not installed; run pip install torch\n")
    assert run(*TINY, "--direction", "forward", "--rounds", "3") == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("; not installed: tensorflow, torch, scipy")


def test_errors_name_the_argument(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in [
        (["8x56x56"], "argument INPUT: must be 2 or 4 whole numbers joined by 'x'"),
        (["28x28", "3"], "argument FILTERS: must be 4 whole numbers"),
        (["--peer", "numpy"], "argument --peer: invalid choice: 'numpy'"),
        (["--rounds", "2"], "argument --rounds: must be a whole number from 3 to 10000, got '2'"),
        (["28x28", "3x3x1x6", "2"], "unrecognized arguments: 2"),
    ]:
        with pytest.raises(SystemExit) as exit_code:
            run(*arguments)
        assert exit_code.value.code == 2
        assert says in capsys.readouterr().err
    huge = ("90000x999x999x9", "3x3x9x9")
    for arguments, says in [
        (["28x28"], "INPUT needs FILTERS, such as 3x3x64x64; leave out both"),
        (["--data-format", "NCHW"], "--data-format needs INPUT and FILTERS"),
        (["--depthwise"], "--depthwise needs INPUT and FILTERS"),
        (["--peer", "none", "--peer", "scipy"], "--peer none excludes other peers, got none and scipy"),
        (["1x28x28x4", "3x3x3x6"], "FILTERS must have 4 input channels"),
        (["3x3", "5x5x1x6"], "the output height is negative"),
        (["0x28x28x1", "3x3x1x6"], "there is nothing to compute"),
        ([*huge, "--peer", "none"], "INPUT and FILTERS: the arrays must fit 4 times into the memory of "),
        ([*huge, "--peer", "none"], "; take a smaller batch\n"),
        ([*huge, "--peer", "scipy"], "fit 8 times into the memory of "),
        ([*huge, "--peer", "scipy"], "; take a smaller batch or --peer none\n"),
    ]:
        assert run(*arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("fastconv: ") and says in error and error.count("\n") == 1, error


def test_the_layers_of_a_run_without_arguments() -> None:
    for name, layer in bench._LAYERS.items():
        for direction in DIRECTION_NAMES:
            assert layer.explain(direction).kernel, name


LAYERS = [
    Layer((2, 9, 8, 3), (3, 3, 3, 5)),
    Layer((2, 9, 8, 4), (5, 3, 4, 6), strides=(2, 1), padding=(2, 1)),
    Layer((2, 4, 9, 8), (3, 3, 2, 6), data_format="NCHW", padding="SAME"),  # two groups
    Layer((2, 9, 8, 4), (3, 3, 4, 2), padding="SAME", depthwise=True),
    Layer((2, 9, 8, 4), (3, 3, 4, 6), dilations=(2, 2)),
    Layer((2, 9, 8, 1), (5, 3, 1, 1), padding="SAME", dtype="float64"),
    Layer((2, 8, 8, 4), (3, 3, 4, 6), strides=(2, 2), padding="SAME"),  # pads only the bottom and the right
]
# The least numbers of layers and directions. SciPy computes one. PyTorch does not pad one side alone.
COMPUTED = {"scipy": 1, "torch": 18, "tensorflow": 15}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_title_has_the_arguments_of_its_layer(layer: Layer) -> None:
    from fastconv.__main__ import _parser

    words = bench._sizes(layer).split()
    assert bench._layers(_parser().parse_args(["bench", *words])) == {"": layer}


def test_a_library_that_fails_later_is_named() -> None:
    with Contestant("scipy", 1) as contestant:  # nothing is prepared
        with pytest.raises(ValueError, match="scipy: NameError: "):
            bench._samples({"scipy": contestant}, 3)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("peer", ["scipy", "tensorflow", "torch"])
def test_the_peers_compute_the_same(peer: str) -> None:
    if importlib.util.find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed")
    computed = 0
    with Contestant("fastconv", 2) as ours, Contestant(peer, 2) as theirs:
        for layer in LAYERS:
            for direction in DIRECTION_NAMES:
                ((_, expected),) = ours.prepare(layer, direction)
                try:
                    results = theirs.prepare(layer, direction)
                except NotComputed:
                    continue
                computed += 1
                for label, result in results:
                    assert result.shape == expected.shape
                    assert np.allclose(result, expected, atol=1e-4), (label, layer, direction)
                assert theirs.sample() > 0
    assert computed >= COMPUTED[peer]


def test_the_page_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Apart from the numbers. The algorithms depend on the instruction set."""
    page = (Path(__file__).parents[1] / "docs" / "command_line.md").read_text(encoding="utf-8")
    match = re.search(r"```sh\nfastconv bench (\d[^\n]*)\n```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert match is not None
    assert run(*match[1].split(), "--rounds", "3") == 0

    def words(text: str) -> list[str]:
        lines = [line for line in text.splitlines()[1:] if set(line) != {"-"}]
        return re.sub(r"(?<![\dx])[\d.]+(?![\dx])", "0", "\n".join(lines)).split()

    printed, shown = (words(text) for text in (capsys.readouterr().out, match[2]))
    assert len(printed) == len(shown)
    if fastconv.show_config("dicts")["isa"] == "avx512":
        assert printed == shown


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    for line, expected in [("fastconv b", {"bench"}), ("fastconv bench --peer sc", {"scipy"})]:
        answer = tmp_path / "answer"
        environment = {
            "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        }  # fmt: skip
        command = [sys.executable, "-m", "fastconv"]
        subprocess.run(command, env={**os.environ, **environment}, check=False, timeout=TIMEOUT)
        assert {word.strip() for word in answer.read_text(encoding="utf-8").split("\n")} == expected
