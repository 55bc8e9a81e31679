// What each call from Python needs around the computation: it releases the GIL, and turns C++ exceptions into Python's.
#pragma once

#include <pybind11/pybind11.h>

#include <cxxabi.h>
#include <unistd.h>

#include <new>
#include <stdexcept>

namespace fastconv {

/// Releases the GIL for a block of code. A daemon thread does not get the GIL back once the interpreter shuts down.
/// Python before 3.14 unwinds the stack of such a thread. This would run destructors of Python objects without the GIL,
/// and would end the process at a `noexcept` function. Here the thread waits for the end of the process instead, as in
/// Python 3.14.
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

/// Returns the object that body() returns. If body() throws, sets the Python exception and returns null.
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
