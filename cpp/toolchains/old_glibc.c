/* What GCC's C++ library asks of glibc, and glibc before 2.32 does not have: whether the process has one thread only. */
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
