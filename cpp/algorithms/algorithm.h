// An algorithm is an object. It says what it serves and what that costs, makes a plan, and runs the plan.
#pragma once

#include "algorithms/correlation.h"
#include "core/plan_cache.h"
#include "fastconv/convolution.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

namespace fastconv {

/// What to compute: a filter gradient, or one correlation of a forward pass or an input gradient.
struct Request {
    const ConvProblem& layer; // NHWC
    Direction direction;
    Correlation part; // not in filter gradients
    std::int64_t threads;
    bool filters_stay; // and are packed once
    // Winograd's algorithm has what it could not compute (see winograd.h) computed again:
    bool only_direct = false; // by algorithms of this family
    bool single = false;      // for parts of the output alone, Operands::only or Operands::block

    bool is_correlation() const { return direction != Direction::filter_gradient; }
    Request with(const Correlation& other) const {
        Request request = *this;
        request.part = other;
        return request;
    }
};

/// The facts of a plan that explain() reports.
struct PlanSummary {
    const char* kernel = "";
    std::int64_t tile_pixels = 0, tile_filters = 0, tasks = 0;
    std::int64_t shared_bytes = 0, thread_bytes = 0; // scratch memory of the call, and of each thread
    double multiplications = 0;
};

/// The decisions of an algorithm: blocks, tiles, tasks. Each algorithm derives its own class.
struct Decisions {
    Decisions() = default;
    virtual ~Decisions() = default;
    Decisions(const Decisions&) = delete;
    Decisions& operator=(const Decisions&) = delete;

    PlanSummary summary;
};

template <class T>
class ConvPlan;

constexpr double kAlwaysPays = -std::numeric_limits<double>::infinity();

template <class T>
struct Algorithm {
    const char* name;
    const char* family; // what a caller names with conv2d(algorithm=...), which then takes no other; explain() says it
    const char* limits; // what the family serves, for the error message; null if everything
    /// Whether it can compute this at all.
    bool (*serves)(const Request& request);
    /// In vectors multiplied per output pixel, from the layer and the ISA alone, with nominal cache sizes: what this
    /// answers decides about bits. Infinity where it never pays, kAlwaysPays where nothing else shall be taken.
    double (*cost)(const Request& request);
    /// Adds one pass to the plan, or several where the whole does not fit.
    void (*plan)(const Request& request, ConvPlan<T>& plan);
    void (*run)(const Decisions& decisions, const Operands<T>& operands);
};

/// The plan of one direction of a layer: the passes that compute it, one after the other.
template <class T>
class ConvPlan : public Plan {
  public:
    bool empty() const { return passes_.empty(); }
    void add(const Algorithm<T>& algorithm, std::unique_ptr<const Decisions> decisions) {
        passes_.push_back({&algorithm, std::move(decisions)});
    }
    void run(const Operands<T>& operands) const {
        for (const Pass& pass : passes_) pass.algorithm->run(*pass.decisions, operands);
    }
    /// Passes run one after the other, so their work adds up and their memory does not.
    PlanSummary summary() const {
        PlanSummary all;
        for (const Pass& pass : passes_) {
            const PlanSummary& one = pass.decisions->summary;
            if (*all.kernel == '\0') {
                all.kernel = one.kernel;
                all.tile_pixels = one.tile_pixels;
                all.tile_filters = one.tile_filters;
            }
            all.tasks += one.tasks;
            all.shared_bytes = std::max(all.shared_bytes, one.shared_bytes);
            all.thread_bytes = std::max(all.thread_bytes, one.thread_bytes);
            all.multiplications += one.multiplications;
        }
        return all;
    }

  private:
    struct Pass {
        const Algorithm<T>* algorithm;
        std::unique_ptr<const Decisions> decisions;
    };
    std::vector<Pass> passes_;
};

} // namespace fastconv
