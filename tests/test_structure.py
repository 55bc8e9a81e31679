"""Limits on the lengths of files and functions, timeouts of processes in tests, and mutations that still apply."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 80

# Text whose braces and parentheses are ignored: comments, strings, characters, preprocessor lines, lone macros.
OPAQUE = re.compile(
    r"//[^\n]*|/\*.*?\*/"
    r'|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
    r"|(?<!\w)'(?:\\.|[^'\\\n])+'"
    r"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*"
    r"|^[ \t]*[A-Z][A-Z0-9_]*\([^()\n]*\)$",
    re.DOTALL | re.MULTILINE,
)
ATTRIBUTES = re.compile(r"\balignas\s*\([^()]*\)|__attribute__\s*\(\(.*?\)\)", re.DOTALL)

Function = tuple[str, int]  # name and number of lines


def sources(*endings: str) -> Iterator[tuple[str, str]]:
    """Path and text of each source file."""
    for folder in ("cpp", "python", "bench", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in endings:
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def opened_by(header: str) -> str:
    """What a brace after this text opens: a function, a scope or an initialiser. Assumes clang-format's layout."""
    before = header.rstrip()
    if before and (before == header or before[-1] in "=,("):
        return "initialiser"
    return "function" if "(" in ATTRIBUTES.sub("", before) else "scope"


def closing_brace(text: str, opening: int) -> int:
    depth = 0
    for match in re.compile("[{}]").finditer(text, opening):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    raise ValueError("a brace is never closed")


def cpp_functions(text: str) -> Iterator[Function]:
    """All function definitions. A lambda or another block inside a function belongs to it."""
    text = OPAQUE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    statement = at = 0  # start of the statement before the next brace, and position of the search
    while match := re.compile("[{};]").search(text, at):
        at = match.end()
        header = text[statement : match.start()]
        kind = opened_by(header) if match[0] == "{" else "end"
        if kind in ("function", "initialiser"):
            at = closing_brace(text, match.start()) + 1
        if kind == "function":
            name = re.search(r"(operator\W+|[\w:~]+)(?:<[\w:, ]*>)?\s*\(", ATTRIBUTES.sub("", header))
            yield name[1] if name else "?", (header.lstrip() + text[match.start() : at]).count("\n") + 1
        if kind != "initialiser":
            statement = at


def python_functions(text: str) -> Iterator[Function]:
    """All functions; lines of docstrings do not count."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            documented = ast.get_docstring(node) is not None
            docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring


def test_files_are_short() -> None:
    kinds = (".cpp", ".h", ".py", ".pyi", ".js", ".css", ".html")
    lengths = {path: len(text.splitlines()) for path, text in sources(*kinds)}
    long = {path: lines for path, lines in lengths.items() if lines > MOST_LINES_OF_A_FILE}
    assert not long, f"files of more than {MOST_LINES_OF_A_FILE} lines: {long}"


def test_functions_are_short() -> None:
    found = [(path, *function) for path, text in sources(".cpp", ".h") for function in cpp_functions(text)]
    found += [(path, *function) for path, text in sources(".py") for function in python_functions(text)]
    long = [f"{path}: {name}, {lines}" for path, name, lines in found if lines > MOST_LINES_OF_A_FUNCTION]
    assert not long, f"functions of more than {MOST_LINES_OF_A_FUNCTION} lines:\n" + "\n".join(long)


def test_functions_and_their_lengths_are_found() -> None:
    text = """
        #define NOT_ONE(T) \\
            void no(T) { return; }
        DECLARE(a)
        namespace a { // {
        struct alignas(64) S {
            int x{}, y = 1'000;
            S(int i) : x(i), y{i} {
                f('{');
            }
            bool operator==(const S& other) const { return true; }
        };
        constexpr int list[] = {1, 2};
        template <>
        A<int> two<int>(T t) {
            const auto lambda = [&] {
                return t;
            };
            return lambda() + "}";
        }
        } // namespace a
        extern "C" {
        void three(
            int) noexcept {
            if (x) { y(); }
        }
        }
    """
    assert list(cpp_functions(text)) == [("S", 3), ("operator==", 1), ("two", 7), ("three", 4)]
    python = '''
def one():
    """Some
    lines."""

    def two():
        return 1
    return two
'''
    assert list(python_functions(python)) == [("one", 5), ("two", 2)]


def waits_for_ever(call: ast.AST) -> bool:
    """Whether the call runs a process, or waits for one by `communicate`, without a timeout."""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    of_subprocess = isinstance(call.func.value, ast.Name) and call.func.value.id == "subprocess"
    waits = call.func.attr == "communicate" or (of_subprocess and call.func.attr != "Popen")
    return waits and "timeout" not in {keyword.arg for keyword in call.keywords}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.py")), ids=lambda path: path.name)
def test_no_test_waits_for_a_process_without_a_timeout(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if waits_for_ever(node)]
    assert [f"line {call.lineno}: {ast.get_source_segment(text, call)}" for call in calls] == []


def test_every_mutation_can_be_applied() -> None:
    """A mutation replaces a text that occurs once. If the source changes, the mutation must change with it."""
    mutations = json.loads((ROOT / "tests" / "mutations" / "mutations.json").read_text(encoding="utf-8"))
    counts = {m["name"]: (ROOT / m["file"]).read_text(encoding="utf-8").count(m["search"]) for m in mutations}
    assert {name: count for name, count in counts.items() if count != 1} == {}
    assert len(counts) == len(mutations)
    assert all((ROOT / test).exists() for m in mutations for test in m["tests"])
