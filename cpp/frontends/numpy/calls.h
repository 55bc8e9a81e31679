// What each call from Python needs around the computation: Python's lock is released, and errors become Python's.
#pragma once

#include <pybind11/pybind11.h>

#include <cxxabi.h>
#include <unistd.h>

#include <new>
#include <stdexcept>

namespace fastconv {

/// Releases Python's lock for a block. When Python ends, a daemon thread does not get the lock back. Python before 3.14
/// unwinds the thread's stack instead. That would run destructors of Python objects without the lock, and it ends the
/// process at a `noexcept` function. Here the thread waits for the end of the process, as in Python 3.14.
class ReleasedLock {
  public:
    ReleasedLock() : state_(PyEval_SaveThread()) {}
    ~ReleasedLock() {
#ifdef __GLIBCXX__
        try {
            PyEval_RestoreThread(state_);
        } catch (const abi::__forced_unwind&) {
            for (;;) pause();
        }
#else
        PyEval_RestoreThread(state_);
#endif
    }
    ReleasedLock(const ReleasedLock&) = delete;
    ReleasedLock& operator=(const ReleasedLock&) = delete;

  private:
    PyThreadState* state_;
};

/// Returns body()'s object, or sets Python's error.
template <class Body>
PyObject* guarded(Body&& body) noexcept {
    try {
        return body().release().ptr();
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const py::builtin_exception& error) {
        error.set_error();
    } catch (const std::bad_alloc& error) {
        PyErr_SetString(PyExc_MemoryError, error.what());
    } catch (const std::invalid_argument& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    } catch (...) {
        PyErr_SetString(PyExc_RuntimeError, "fastconv: unknown error");
    }
    return nullptr;
}

} // namespace fastconv
