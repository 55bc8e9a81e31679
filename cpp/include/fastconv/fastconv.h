// The C++ API: problems in, results out. All that a front end may include.
//
// A front end turns its framework's arguments into the plain numbers below, calls a make_*_problem function (the one
// place where anything is validated, so that every front end refuses the same things with the same words) and then the
// function that computes. Buffers are dense, in the problem's data format and data type, and never overlap.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#define FASTCONV_API __attribute__((visibility("default")))

namespace fastconv {

class PackCache;

/// A wrong argument. The text names the argument, what came, and what would do.
class FASTCONV_API InvalidArgument : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

enum class DataType : std::uint8_t { float32, float64 };
enum class DataFormat : std::uint8_t { nhwc, nchw };
enum class Activation : std::uint8_t { linear, relu };
enum class Algorithm : std::uint8_t { auto_choice, direct, winograd, depthwise };

using Dims = std::vector<std::int64_t>;
using Pair = std::array<std::int64_t, 2>; // (height, width)

/// Padding as the caller says it; `top` ... `right` count only for `explicit_pads`.
struct Padding {
    enum class Mode : std::uint8_t { valid, same, explicit_pads };
    Mode mode = Mode::valid;
    std::int64_t top = 0, bottom = 0, left = 0, right = 0;
};

// ---- From words and lists to numbers. `name` is the argument's name for the error message.
// ----------------------------
FASTCONV_API DataFormat parse_data_format(std::string_view text); // "NHWC" | "NCHW"
FASTCONV_API Activation parse_activation(std::string_view text);  // "linear" | "relu"
/// "VALID" | "SAME", any case
FASTCONV_API Padding parse_padding(std::string_view text, const char* name = "padding");
/// Eight numbers in the order of the four dimensions, as TensorFlow's `explicit_paddings`.
FASTCONV_API Padding explicit_padding(const Dims& eight, DataFormat format, const char* name = "padding");
/// (top, bottom, left, right); each at least 0.
FASTCONV_API Padding explicit_padding(std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right,
                                      const char* name = "padding");
/// 1, 2 or 4 numbers (four: in `format` order, those of batch and channels must be 1), each at least 1.
FASTCONV_API Pair parse_pair(const char* name, const Dims& values, DataFormat format);

// ---- Problems ------------------------------------------------------------------------------------------------------
struct ConvArguments {
    Pair strides{1, 1};
    Pair dilations{1, 1};
    Padding padding;
    DataFormat format = DataFormat::nhwc;
    bool depthwise = false; // filters are (R, S, C, M) instead of (R, S, C/groups, K)
    std::string_view algorithm = "auto";
    const char* input_name = "input"; // what the caller calls the argument that holds or gives the input's shape
    const char* filters_name = "filters";
};

/// A convolution with every size resolved. Dimension names: input (N,H,W,C), filters (R,S,C/groups,K), output
/// (N,P,Q,K). A depthwise convolution is the one with groups = C and K = C*M: its (R,S,C,M) filters are (R,S,1,C*M) in
/// memory.
struct ConvProblem {
    DataType dtype = DataType::float32;
    DataFormat format = DataFormat::nhwc;
    bool depthwise = false;
    Algorithm algorithm = Algorithm::auto_choice;
    std::int64_t n = 0, h = 0, w = 0, c = 0, k = 0, r = 0, s = 0, p = 0, q = 0, groups = 1;
    std::int64_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
    std::int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;

    FASTCONV_API Dims input_dims() const;  // in `format` order
    FASTCONV_API Dims filter_dims() const; // (R,S,C/groups,K) or (R,S,C,M)
    FASTCONV_API Dims output_dims() const; // in `format` order
};

FASTCONV_API ConvProblem make_conv_problem(DataType dtype, const Dims& input, const Dims& filters,
                                           const ConvArguments& arguments);
/// Throws unless `dims` is what `problem` says; e.g. the shape of `out_backprop` against output_dims().
FASTCONV_API void check_dims(const char* name, const Dims& dims, const Dims& expected, const char* why);

struct PoolArguments {
    Pair ksize{1, 1};
    Pair strides{1, 1};
    Padding padding;
    DataFormat format = DataFormat::nhwc;
    const char* input_name = "input"; // what the caller calls its arguments, and what comes out
    const char* strides_name = "strides";
    const char* padding_name = "padding";
    const char* output_name = "the output";
};

struct PoolProblem {
    DataType dtype = DataType::float32;
    DataFormat format = DataFormat::nhwc;
    std::int64_t n = 0, h = 0, w = 0, c = 0, r = 0, s = 0, p = 0, q = 0; // window (R,S), output (N,P,Q,C)
    std::int64_t stride_h = 1, stride_w = 1;
    std::int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;

    FASTCONV_API Dims input_dims() const;
    FASTCONV_API Dims output_dims() const;
};

FASTCONV_API PoolProblem make_pool_problem(DataType dtype, const Dims& input, const PoolArguments& arguments);

/// floor((size + padding - ((kernel-1)*dilation + 1)) / stride) + 1, or ceil(size / stride) for SAME.
FASTCONV_API std::int64_t conv_output_size(std::int64_t size, std::int64_t kernel, std::int64_t stride,
                                           const Padding& padding, std::int64_t dilation, bool height_axis = true);

// ---- Computing. Pointers to dense buffers of the problem's data type; `bias` (K values) may be null. ----------------
FASTCONV_API void conv2d(const ConvProblem& problem, const void* input, const void* filters, const void* bias,
                         Activation activation, void* output);
FASTCONV_API void conv2d_backprop_input(const ConvProblem& problem, const void* filters, const void* out_backprop,
                                        void* input_backprop);
FASTCONV_API void conv2d_backprop_filter(const ConvProblem& problem, const void* input, const void* out_backprop,
                                         void* filter_backprop);
/// The gradient of a convolution's bias: the sums of out_backprop, of shape `dims`, over all but its channels. With
/// `output`, the result of a fused ReLU: `masked` becomes out_backprop where output > 0, else 0, and is what is summed;
/// it may be out_backprop itself. Both, or bias_backprop, may be null.
FASTCONV_API void bias_gradient(DataType dtype, DataFormat format, const Dims& dims, const void* out_backprop,
                                const void* output, void* masked, void* bias_backprop);

/// Filters that stay: a copy of the caller's, which each algorithm and geometry packs once, when first used. Since
/// nobody can change the copy, what is packed never becomes wrong. Any number of threads may use it at once.
class FASTCONV_API PackedFilters {
  public:
    PackedFilters(DataType dtype, const Dims& dims, const void* filters);
    ~PackedFilters();
    PackedFilters(const PackedFilters&) = delete;
    PackedFilters& operator=(const PackedFilters&) = delete;

    DataType dtype() const { return dtype_; }
    const Dims& dims() const { return dims_; }
    const void* data() const { return values_.get(); }
    PackCache* cache() const { return cache_.get(); }
    std::int64_t forms() const; // how many packed forms there are by now

  private:
    struct Free {
        void operator()(void* memory) const noexcept;
    };
    DataType dtype_;
    Dims dims_;
    std::unique_ptr<void, Free> values_;
    std::unique_ptr<PackCache> cache_;
};
FASTCONV_API void conv2d(const ConvProblem& problem, const void* input, const PackedFilters& filters, const void* bias,
                         Activation activation, void* output);
FASTCONV_API void conv2d_backprop_input(const ConvProblem& problem, const PackedFilters& filters,
                                        const void* out_backprop, void* input_backprop);

enum class Direction : std::uint8_t { forward, input_gradient, filter_gradient };

/// What a call would do, with the threads of now.
struct Explanation {
    std::string algorithm;                      // "direct", "winograd" or "depthwise"
    std::string kernel;                         // the function that does the work, as in cpp/kernels/table.h
    std::int64_t tile_pixels, tile_filters;     // what one register tile computes: pixels, or in a filter gradient
                                                // window elements, times filters
    std::int64_t tasks, threads, scratch_bytes; // scratch memory: an upper bound
    double multiplications;                     // of the algorithm, without transforms
};
FASTCONV_API Explanation explain(const ConvProblem& problem, Direction direction);
/// `argmax` may be null; else it takes (y*W + x)*C + c, or ((n*H + y)*W + x)*C + c with `include_batch`, one int64 an
/// output, laid out as the output is.
FASTCONV_API void max_pool2d(const PoolProblem& problem, const void* input, void* output, std::int64_t* argmax,
                             bool include_batch);
FASTCONV_API void max_pool2d_grad(const PoolProblem& problem, const void* input, const void* grad, void* input_grad);

constexpr std::int64_t max_pool_taps = 255;
/// For training: also keeps where each maximum was, one byte an output, for max_pool2d_scatter, which then need not
/// read the input again, and for max_pool2d_gather, its transpose. In `taps` the order is NHWC always; a byte that
/// names no tap stands for none. All functions with taps take windows of at most max_pool_taps of them.
FASTCONV_API void max_pool2d_with_taps(const PoolProblem& problem, const void* input, void* output, std::uint8_t* taps);
FASTCONV_API void max_pool2d_scatter(const PoolProblem& problem, const std::uint8_t* taps, const void* grad,
                                     void* input_grad);
FASTCONV_API void max_pool2d_gather(const PoolProblem& problem, const std::uint8_t* taps, const void* values,
                                    void* output);
/// Throws unless each byte names a tap of its window.
FASTCONV_API void check_tap_numbers(const char* name, const PoolProblem& problem, const std::uint8_t* taps);

/// A convolution and the max-pooling `pool` of its output, a few images at a time: what conv2d and max_pool2d_with_taps
/// give.
FASTCONV_API void conv2d_max_pool2d(const ConvProblem& problem, const PoolProblem& pool, const void* input,
                                    const PackedFilters& filters, const void* bias, Activation activation, void* output,
                                    std::uint8_t* taps);
/// The gradients of a convolution whose output went into the max-pooling `pool` and nowhere else: what
/// max_pool2d_scatter, conv2d_backprop_input (unless input_backprop is null), conv2d_backprop_filter and bias_gradient
/// give. Every byte of `taps` must name a tap. Of small layers, which max_pool_backprop_serves tells, whatever the
/// batch, the gradient of the convolution's output is never in memory as a whole.
FASTCONV_API bool max_pool_backprop_serves(const ConvProblem& problem);
FASTCONV_API void max_pool_backprop(const ConvProblem& problem, const PoolProblem& pool, const void* input,
                                    const void* filters, const std::uint8_t* taps, const void* grad,
                                    void* input_backprop, void* filter_backprop, void* bias_backprop);
FASTCONV_API void avg_pool2d(const PoolProblem& problem, const void* input, void* output);
FASTCONV_API void avg_pool2d_grad(const PoolProblem& problem, const void* grad, void* input_grad);

// ---- Threads and configuration --------------------------------------------------------------------------------------
FASTCONV_API void set_num_threads(std::int64_t count); // InvalidArgument below 1
FASTCONV_API std::int64_t get_num_threads();

/// For a host with thread settings of its own: calls that prefer the pool take at most `count` threads, however many
/// set_num_threads allows.
FASTCONV_API void limit_host_threads(std::int64_t count);

enum class ThreadingBackend : std::uint8_t { openmp, pool };

/// While it lives, calls of this thread run on `backend` unless FASTCONV_THREADING says otherwise.
class FASTCONV_API PreferBackend {
  public:
    explicit PreferBackend(ThreadingBackend backend);
    ~PreferBackend();
    PreferBackend(const PreferBackend&) = delete;
    PreferBackend& operator=(const PreferBackend&) = delete;

  private:
    ThreadingBackend previous_;
};

struct Config {
    std::string version, compiler, isa, threading;
    std::vector<std::string> isa_available;
    std::int64_t threads;
};
FASTCONV_API Config config();

} // namespace fastconv
