// Convolution: problems, the three directions, packed filters, and explanations of what a call would do.
#pragma once

#include "fastconv/phases.h"
#include "fastconv/types.h"

#include <functional>
#include <memory>
#include <vector>

namespace fastconv {

class PackCache;
class KeptPlan;

/// The algorithms that a caller may name, "auto" first. Saved graphs hold indices into this list, so its order must not
/// change.
FASTCONV_API const std::vector<std::string>& algorithm_names();
constexpr std::int64_t kAutoAlgorithm = 0;

struct ConvArguments {
    Pair strides{1, 1};
    Pair dilations{1, 1};
    Padding padding;
    DataFormat format = DataFormat::nhwc;
    bool depthwise = false; // filters are (R, S, C, M) instead of (R, S, C/groups, K)
    std::string_view algorithm = "auto";
    // For error messages: the caller's names of the arguments that give the shapes.
    const char* input_name = "input";
    const char* filters_name = "filters";
};

/// A convolution with every size resolved. Dimension names: input (N,H,W,C), filters (R,S,C/groups,K), output
/// (N,P,Q,K). A depthwise convolution has groups = C and K = C*M. In memory, its (R,S,C,M) filters are (R,S,1,C*M).
struct ConvProblem {
    DataType dtype = DataType::float32;
    DataFormat format = DataFormat::nhwc;
    bool depthwise = false;
    std::int64_t algorithm = kAutoAlgorithm; // index into algorithm_names()
    // The batch size that the choice of the algorithm may depend on. If 0, the choice ignores the batch, and the result
    // of an image has the same bits in every batch.
    std::int64_t deciding_batch = 0;
    std::int64_t n = 0, h = 0, w = 0, c = 0, k = 0, r = 0, s = 0, p = 0, q = 0, groups = 1;
    std::int64_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
    std::int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;

    FASTCONV_API Dims input_dims() const;  // in `format` order
    FASTCONV_API Dims filter_dims() const; // (R,S,C/groups,K) or (R,S,C,M)
    FASTCONV_API Dims output_dims() const; // in `format` order
};

FASTCONV_API ConvProblem make_conv_problem(DataType dtype, const Dims& input, const Dims& filters,
                                           const ConvArguments& arguments);

/// floor((size + padding - ((kernel-1)*dilation + 1)) / stride) + 1, or ceil(size / stride) for SAME.
FASTCONV_API std::int64_t conv_output_size(std::int64_t size, std::int64_t kernel, std::int64_t stride,
                                           const Padding& padding, std::int64_t dilation, bool height_axis = true);

/// Holds the plan of the last call, for callers that repeat the same call. Any number of threads may use it at once.
class FASTCONV_API PlanHolder {
  public:
    PlanHolder();
    ~PlanHolder();
    PlanHolder(const PlanHolder&) = delete;
    PlanHolder& operator=(const PlanHolder&) = delete;

    KeptPlan* get() const { return kept_.get(); }

  private:
    std::unique_ptr<KeptPlan> kept_;
};

/// What is applied to the sums of a convolution: output = activation(sum + bias + residual).
struct Epilogue {
    const void* bias = nullptr; // one value for each output channel, or null
    ActivationFunction activation;
    const void* residual = nullptr; // an array of the output's shape, or null
};

// Pointers are to dense buffers of the problem's data type. `holder` may be null.
FASTCONV_API void conv2d(const ConvProblem& problem, const void* input, const void* filters, const Epilogue& epilogue,
                         void* output, const PlanHolder* holder = nullptr);
FASTCONV_API void conv2d_backprop_input(const ConvProblem& problem, const void* filters, const void* out_backprop,
                                        void* input_backprop, const PlanHolder* holder = nullptr);
/// The input gradient with an epilogue. `input` has the shape of the problem's output, and `output` that of its input.
FASTCONV_API void conv2d_transpose(const ConvProblem& problem, const void* input, const void* filters,
                                   const Epilogue& epilogue, void* output, const PlanHolder* holder = nullptr);
FASTCONV_API void conv2d_backprop_filter(const ConvProblem& problem, const void* input, const void* out_backprop,
                                         void* filter_backprop, const PlanHolder* holder = nullptr);

/// Filters whose values never change. Each algorithm packs them at first use, once for each geometry, and the packed
/// forms are kept for later calls. Any number of threads may use an object at once.
class FASTCONV_API PackedFilters {
  public:
    /// Whether the object copies the caller's filters. Borrowed memory must outlive the object and never change.
    enum class Memory : std::uint8_t { copied, borrowed };

    PackedFilters(DataType dtype, const Dims& dims, const void* filters, Memory memory = Memory::copied);
    ~PackedFilters();
    PackedFilters(const PackedFilters&) = delete;
    PackedFilters& operator=(const PackedFilters&) = delete;

    DataType dtype() const { return dtype_; }
    const Dims& dims() const { return dims_; }
    const void* data() const { return data_; }
    PackCache* cache() const { return cache_.get(); }
    std::int64_t forms() const; // number of packed forms so far

  private:
    struct Free {
        void operator()(void* memory) const noexcept;
    };
    DataType dtype_;
    Dims dims_;
    std::unique_ptr<void, Free> copy_; // null if the memory is borrowed
    const void* data_;
    std::unique_ptr<PackCache> cache_;
};
FASTCONV_API void conv2d(const ConvProblem& problem, const void* input, const PackedFilters& filters,
                         const Epilogue& epilogue, void* output);
FASTCONV_API void conv2d_transpose(const ConvProblem& problem, const void* input, const PackedFilters& filters,
                                   const Epilogue& epilogue, void* output);
FASTCONV_API void conv2d_backprop_input(const ConvProblem& problem, const PackedFilters& filters,
                                        const void* out_backprop, void* input_backprop);

enum class Direction : std::uint8_t { forward, input_gradient, filter_gradient };
FASTCONV_API Direction parse_direction(std::string_view text); // "forward" | "input gradient" | "filter gradient"

/// What a call would do, with the current number of threads.
struct Explanation {
    std::string algorithm; // "direct", "winograd" or "depthwise"
    std::string kernel;    // the function in cpp/kernels/table.h that does the work
    // One register tile: pixels x filters. In a filter gradient: window elements x filters.
    std::int64_t tile_pixels, tile_filters;
    std::int64_t tasks, threads, scratch_bytes; // scratch_bytes is an upper bound
    double multiplications;                     // the multiplications of the algorithm, without those of transforms
};
FASTCONV_API Explanation explain(const ConvProblem& problem, Direction direction);

/// The phases of a call with filters that are not packed, with the current number of threads.
FASTCONV_API std::vector<Phase> count_tasks(const ConvProblem& problem, Direction direction);
/// Calls `function`, and returns the number of tasks of each parallel loop that this thread has started meanwhile.
FASTCONV_API std::vector<std::int64_t> tasks_run_by(const std::function<void()>& function);

} // namespace fastconv
