"""The number of threads, and the configuration of the library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, SupportsIndex, TypedDict, overload

from fastconv import _core


class Config(TypedDict):
    """The dictionary that `show_config` returns."""

    version: str
    compiler: str
    isa: str
    isa_available: list[str]
    threads: int
    threading: str
    threading_available: list[str]


def set_num_threads(n: SupportsIndex) -> None:
    """Set how many threads a call may use, for the whole process.

    Parameters
    ----------
    n : int
        1 to 1024. Small calls run on the calling thread in any case.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is out of range.

    See Also
    --------
    threads : Sets the number for a block of code.

    Notes
    -----
    By default, the number comes from the environment variable ``FASTCONV_NUM_THREADS``. If this is not set, it comes
    from ``OMP_NUM_THREADS``. If neither is set, it is the number of CPUs that the process may use (affinity and
    container quota). No result depends on the number of threads.
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """Return how many threads a call may use.

    Returns
    -------
    int

    See Also
    --------
    set_num_threads : Sets the number, and explains its default.
    """
    return _core.get_num_threads()


@contextmanager
def threads(n: SupportsIndex) -> Iterator[None]:
    """Set how many threads a call may use during a ``with`` block.

    Parameters
    ----------
    n : int
        1 to 1024.

    Returns
    -------
    context manager

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is out of range.

    See Also
    --------
    set_num_threads : Sets the number until it is set again.

    Notes
    -----
    The former number is restored at the end of the block, also after an exception. During the block, the number holds
    for the whole process, including other Python threads. Used as a decorator, `threads` sets the number for each call
    of a function. If `threadpoolctl` is installed, it shows and limits the same number.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.threads(2):
    ...     fastconv.get_num_threads()
    2
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> Config: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> Config | None:
    """Show version, compiler, instruction sets and threads.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, optional
        "stdout" prints, "dicts" returns a dictionary, as in ``numpy.show_config``.

    Returns
    -------
    dict or None
        None if `mode` is "stdout". Otherwise a dictionary with the keys

        - "version" and "compiler";
        - "isa", the instruction set in use. The environment variable ``FASTCONV_ISA`` can choose a lower one;
        - "isa_available", the instruction sets that both this build and this CPU support;
        - "threads", the number of threads;
        - "threading", the thread backend. The environment variable ``FASTCONV_THREADING`` can choose it;
        - "threading_available", the thread backends of this build.

    Raises
    ------
    ValueError
        If `mode` is neither "stdout" nor "dicts".
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', got {mode!r}")
    config = _core.config()
    if mode == "dicts":
        return config
    print(f"fastconv {config['version']}")
    print(f"  compiler   {config['compiler']}")
    print(f"  ISA        {config['isa']} in use; available: {', '.join(config['isa_available'])}")
    print(f"  threads    {config['threads']}")
    print(f"  threading  {config['threading']} in use; available: {', '.join(config['threading_available'])}")
    return None
