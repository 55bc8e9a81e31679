"""The command line of `fastconv`: usage, one-line errors, `config`, and the folder of `lenet --out`."""

from __future__ import annotations

from pathlib import Path

import lenet_runs
import pytest
from lenet_runs import fails_with_one_line, fastconv, python

digits, npz = lenet_runs.digits, lenet_runs.npz  # fixtures


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "lenet,predict,explain,bench,config"),
        (["train"], "train"),
        (["lenet", "--epochs", "0"], "--epochs: must be a whole number from 1"),
        (["lenet", "--epochs", "2.5"], "--epochs: must be a whole number"),
        (["lenet", "--batch-size", "-1"], "--batch-size: must be a whole number from 1"),
        (["lenet", "--learning-rate", "0"], "--learning-rate: must be a number above 0"),
        (["lenet", "--learning-rate", "nan"], "--learning-rate: must be a number above 0"),
        (["lenet", "--seed", "4294967296"], "--seed: must be a whole number from 0 to 4294967295"),
        (["lenet", "--layers", "torch"], "--layers: invalid choice: 'torch'"),
        (["lenet", "--limit", "5"], "--limit: must be a whole number from 6"),
        (["lenet", "--data", ""], "--data: must not be empty"),
        (["lenet", "--nonsense"], "--nonsense"),
    ],
)
def test_usage_errors_name_the_argument(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    from fastconv.__main__ import main

    with pytest.raises(SystemExit) as exit_code:
        main(arguments)
    assert exit_code.value.code == 2
    assert says in capsys.readouterr().err


def test_errors_are_one_line(npz: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    fails_with_one_line(fastconv("lenet", "--data", tmp_path / "broken.npz"), "--data", "broken.npz")
    fails_with_one_line(fastconv("lenet", FASTCONV_MNIST=str(tmp_path / "no.npz")), "FASTCONV_MNIST", "no such file")
    fails_with_one_line(
        fastconv("lenet", "--data", npz, "--limit", "4001"), "--limit must be at most 4000, ", "got 4001;"
    )
    fails_with_one_line(fastconv("lenet", "--data", npz, "--force"), "--force", "--out is not given")
    fails_with_one_line(fastconv("lenet", "--compare", "--profile"), "--compare", "leave out --profile")
    fails_with_one_line(fastconv("lenet", "--compare", "--layers", "keras"), "--compare", "leave out")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("tensorflow", []), ("matplotlib", ["--out", "nowhere"]), ("rich", ["--profile"])],
)
def test_a_missing_extra_is_reported_in_one_sentence(module: str, arguments: list[str]) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\nfrom fastconv.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    process = python(code, "lenet", *arguments)
    fails_with_one_line(
        process, f"fastconv lenet needs {module}; run pip install 'tensorflow>=2.16' 'matplotlib>=3.8' "
    )


def test_config_is_printed() -> None:
    process = fastconv("config")
    assert process.returncode == 0 and process.stderr == ""
    for word in ("fastconv", "compiler", "ISA", "threads", "threading"):
        assert word in process.stdout


def test_out_is_checked_before_the_training(npz: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    start = ["lenet", "--data", npz, "--out"]
    fails_with_one_line(fastconv(*start, full), f"--out {full} is not empty", "--force")
    fails_with_one_line(fastconv(*start, tmp_path / "file"), "is a file")
    fails_with_one_line(fastconv(*start, tmp_path / "file" / "below", "--force"), "file is not a folder")
    (full / "model.keras").mkdir()
    fails_with_one_line(fastconv(*start, full, "--force"), "model.keras is a folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    fails_with_one_line(fastconv(*start, tmp_path / "dangling"), "is a broken link")
    assert (full / "thesis.txt").read_text() == "mine" and (tmp_path / "file").read_text() == "mine"


def test_a_failed_write_loses_no_results(tmp_path: Path) -> None:
    from fastconv.lenet.output import check_out, write_all

    def write(path: Path) -> None:
        path.write_text("new")

    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "model.keras").write_text("old")
    (tmp_path / "thesis.txt").write_text("mine")
    check_out(tmp_path, True)
    with pytest.raises(ValueError, match=r"cannot be written.*No space left"):
        write_all(tmp_path, True, {"model.keras": write, "history.csv": fail})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"model.keras": "old", "thesis.txt": "mine"}
    with pytest.raises(ValueError, match=r"another process wrote model.keras .* the results are in (\S+)") as error:
        write_all(tmp_path, False, {"model.keras": write})
    assert (Path(str(error.value).split()[-1]) / "model.keras").read_text() == "new"
    assert (tmp_path / "model.keras").read_text() == "old"
    write_all(tmp_path, True, {"model.keras": write})
    assert (tmp_path / "model.keras").read_text() == "new" and (tmp_path / "thesis.txt").read_text() == "mine"
