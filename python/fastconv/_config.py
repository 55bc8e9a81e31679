"""Threads, and what this build is and runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, SupportsIndex, TypedDict, overload

from fastconv import _core


class Config(TypedDict):
    """What `show_config` knows."""

    version: str
    compiler: str
    isa: str
    isa_available: list[str]
    threads: int
    threading: str


def set_num_threads(n: SupportsIndex) -> None:
    """Set how many threads a call may use, for the whole process.

    Parameters
    ----------
    n : int
        1 to 1024. Little work stays on the calling thread whatever the number.

    Raises
    ------
    TypeError
        If `n` is no integer.
    ValueError
        If `n` is out of range.

    Notes
    -----
    Before the first call, the number comes from the environment variables ``FASTCONV_NUM_THREADS``, then
    ``OMP_NUM_THREADS``, then from the CPUs that the process may use (affinity and container quota). No result depends
    on it.

    See Also
    --------
    threads : Sets it for a block of code.
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """Return how many threads a call may use.

    Returns
    -------
    int

    See Also
    --------
    set_num_threads : Sets it, and says where it comes from before.
    """
    return _core.get_num_threads()


@contextmanager
def threads(n: SupportsIndex) -> Iterator[None]:
    """Set how many threads a call may use, and restore the number at the end of a ``with`` block.

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
        If `n` is no integer.
    ValueError
        If `n` is out of range.

    See Also
    --------
    set_num_threads : Sets the number until it is set again.

    Notes
    -----
    The number holds for the whole process, as that of `set_num_threads` does, and so for calls of other Python threads
    during the block. The former number is restored after an exception, too. As a decorator, it does the same for each
    call of a function. `threadpoolctl`, if it is installed, shows and limits the same number.

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
        With the keys "version", "compiler", "isa" (the instruction set in use; the environment variable
        ``FASTCONV_ISA`` forces a lower one), "isa_available" (those that this build has and this CPU runs), "threads"
        and "threading" (the backend, which the environment variable ``FASTCONV_THREADING`` chooses).

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
    print(f"  threading  {config['threading']}")
    return None
