// The FMA peak: independent chains of FMAs in registers, on as many threads as the benchmark uses. With a second
// argument, the bandwidth of the memory: three arrays are read and one is written, by all threads.
//
// Compiled by bench/peak.py with REAL (float or double), BYTES (of a vector) and the flags of an ISA. Twelve chains
// cover a latency of up to six cycles on two ports and leave four of AVX2's sixteen registers for the constants. Where
// the ISA has no FMA, a multiplication and an addition take its place. Prints the operations or the bytes per second of
// the best of 20 runs. What the CPU reads before it writes does not count.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

typedef REAL Vector __attribute__((vector_size(BYTES)));
constexpr int chains = 12;
constexpr long lanes = BYTES / sizeof(REAL);

static void work(long steps, REAL seed, REAL* result) {
    Vector factor, summand, sums[chains];
    for (long lane = 0; lane < lanes; ++lane) {
        factor[lane] = REAL(1) - seed;
        summand[lane] = seed;
    }
    for (int chain = 0; chain < chains; ++chain) sums[chain] = summand * REAL(chain);
    for (long step = 0; step < steps; ++step)
#pragma GCC unroll 12
        for (int chain = 0; chain < chains; ++chain) sums[chain] = sums[chain] * factor + summand;
    Vector total = sums[0];
    for (int chain = 1; chain < chains; ++chain) total += sums[chain];
    *result = total[0];
}

static void add(const REAL* a, const REAL* b, const REAL* c, REAL* sum, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) sum[i] = a[i] + b[i] + c[i];
}

static double seconds(int threads, const std::function<void(std::size_t)>& run) {
    std::atomic<int> ready{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> workers;
    for (int thread = 0; thread < threads; ++thread)
        workers.emplace_back([&, thread] {
            ++ready;
            while (!go) std::this_thread::yield();
            run(static_cast<std::size_t>(thread));
        });
    while (ready < threads) std::this_thread::yield();
    const auto start = std::chrono::steady_clock::now();
    go = true;
    for (std::thread& worker : workers) worker.join();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    return elapsed.count();
}

int main(int count, char** arguments) {
    const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
    const REAL seed = REAL(1e-3) * REAL(count); // unknown to the compiler
    const long steps = 3'000'000;               // about 5 ms
    const std::size_t workers = static_cast<std::size_t>(threads);
    const std::size_t part = (std::size_t{96} << 20) / sizeof(REAL) / workers, all = part * workers;
    const bool stream = count > 2;
    std::vector<REAL> results(workers), arrays(stream ? 4 * all : 0, seed);
    double best = 1e9;
    for (int run = 0; run < 20; ++run)
        best = std::min(best, seconds(threads, [&](std::size_t thread) {
                            REAL* a = arrays.data() + thread * part;
                            if (stream)
                                add(a, a + all, a + 2 * all, a + 3 * all, part);
                            else
                                work(steps, seed, &results[thread]);
                        }));
    volatile REAL keep = stream ? arrays.back() : results[0]; // the compiler must not drop the work
    (void)keep;
    const double done =
        stream ? 4.0 * double(all) * sizeof(REAL) : 2.0 * double(lanes) * chains * double(steps) * threads;
    std::printf("%.6e\n", done / best);
}
