// An algorithm is an object. Its functions decide whether it serves a request, compute the cost, make a plan and run
// the plan.
#pragma once

#include "algorithms/correlation.h"
#include "algorithms/phases.h"
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
    Correlation part; // unused in filter gradients
    std::int64_t threads;
    bool filters_stay;   // later calls use the same filters, so they are packed once
    bool planes = false; // the images are NCHW. Only plan_on_planes sets it, for algorithms that then plan their planes
    // Winograd's algorithm requests direct sums for values that are not finite (see winograd.h):
    bool only_direct = false; // only algorithms of the family "direct" may be taken
    bool single = false;      // the plan computes only parts of the output: Operands::only or Operands::block

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

    /// The phases, in order, of a run whose filters are not packed before.
    virtual std::vector<Phase> phases() const = 0;

    PlanSummary summary;
};

template <class T>
class ConvPlan;

constexpr double kAlwaysPays = -std::numeric_limits<double>::infinity();

template <class T>
struct Algorithm {
    const char* name;
    const char* family; // the name in explain() and in conv2d(algorithm=...); naming a family excludes the others
    const char* limits; // what the family serves, for error messages; null if it serves everything
    /// Whether the algorithm can compute the request at all.
    bool (*serves)(const Request& request);
    /// The cost in vectors multiplied per output pixel. Infinity means that the algorithm never pays. kAlwaysPays means
    /// that it is always taken. The cost decides the algorithm and thus the bits of the result. It therefore depends
    /// only on the layer and the ISA, assumes nominal cache sizes, and uses no batch size but `deciding_batch`.
    double (*cost)(const Request& request);
    /// Adds one pass to the plan, or several if the whole does not fit into one.
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
    /// Passes run one after the other, so their work adds up but their memory does not.
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

    std::vector<Phase> phases() const {
        std::vector<Phase> all;
        for (const Pass& pass : passes_)
            for (Phase& phase : pass.decisions->phases()) all.push_back(std::move(phase));
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
