#include "algorithms/phases.h"

#include <algorithm>
#include <functional>
#include <queue>

namespace fastconv {

double length_of(const Phase& phase, std::int64_t threads) {
    // When each thread is free again.
    std::priority_queue<double, std::vector<double>, std::greater<>> free(
        std::greater<>(), std::vector<double>(static_cast<std::size_t>(phase.parallel() ? threads : 1), 0.0));
    double end = 0;
    for (const TaskCost& cost : phase.costs) {
        const double done = free.top() + cost.length();
        free.pop();
        free.push(done);
        end = std::max(end, done);
    }
    return end;
}

double length_of(const std::vector<Phase>& phases, std::int64_t threads) {
    double length = 0;
    for (const Phase& phase : phases) length += length_of(phase, threads);
    return length;
}

double products_of(const std::vector<Phase>& phases) {
    double products = 0;
    for (const Phase& phase : phases)
        for (const TaskCost& cost : phase.costs) products += cost.multiplications;
    return products;
}

std::vector<std::int64_t> finer_parts(std::int64_t first, std::int64_t last) {
    std::vector<std::int64_t> parts{first};
    for (const std::int64_t times : {2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64})
        if (first * times <= last) parts.push_back(first * times);
    if (parts.back() < last) parts.push_back(last);
    return parts;
}

} // namespace fastconv
