// The FMA peak: independent chains of FMAs in registers, on as many threads as the benchmark uses.
//
// Compiled by bench/peak.py with REAL (float or double), BYTES (of a vector) and the flags of an ISA. Twelve chains
// cover a latency of up to six cycles on two ports and leave four of AVX2's sixteen registers for the constants. Where
// the ISA has no FMA, a multiplication and an addition take its place. Prints the operations per second of the best of
// 20 runs.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
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

static double seconds(int threads, long steps, REAL seed) {
    std::atomic<int> ready{0};
    std::atomic<bool> go{false};
    std::vector<REAL> results(static_cast<std::size_t>(threads));
    std::vector<std::thread> workers;
    for (int thread = 0; thread < threads; ++thread)
        workers.emplace_back([&, thread] {
            ++ready;
            while (!go) std::this_thread::yield();
            work(steps, seed, &results[static_cast<std::size_t>(thread)]);
        });
    while (ready < threads) std::this_thread::yield();
    const auto start = std::chrono::steady_clock::now();
    go = true;
    for (std::thread& worker : workers) worker.join();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    volatile REAL keep = results[0]; // the compiler must not drop the work
    (void)keep;
    return elapsed.count();
}

int main(int count, char** arguments) {
    const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
    const REAL seed = REAL(1e-3) * REAL(count); // unknown to the compiler
    const long steps = 3'000'000;               // about 5 ms
    double best = 1e9;
    for (int run = 0; run < 20; ++run) best = std::min(best, seconds(threads, steps, seed));
    std::printf("%.6e\n", 2.0 * double(lanes) * chains * double(steps) * threads / best);
}
