/* All operations of fastconv, for C and for any language that can call C.
 *
 * An operation has a name, inputs and outputs in a fixed order, and attributes by name. The documentation of the Python
 * functions explains them. input_gradient, include_batch_in_index, depthwise, ceil_mode and count_include_pad are the
 * numbers 0 or 1. Every function but fastconv_operation_name returns a fastconv_code. On an error, the function also
 * writes a message that says what is wrong. No output is written before all arguments are validated. To leave out an
 * optional input (bias, residual, output_shape, output), set its dtype to FASTCONV_NONE. If no other input follows, a
 * smaller input_count does the same. Any number of threads may call at once. */
#ifndef FASTCONV_C_API_H
#define FASTCONV_C_API_H

#include <stddef.h>
#include <stdint.h>

#define FASTCONV_C_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fastconv_code {
    FASTCONV_OK = 0,
    FASTCONV_INVALID_ARGUMENT = 1,
    FASTCONV_UNKNOWN_OPERATION = 2,
    FASTCONV_OUT_OF_MEMORY = 3,
    FASTCONV_INTERNAL = 4 /* a bug in fastconv */
} fastconv_code;

typedef enum fastconv_dtype {
    FASTCONV_NONE = 0, /* no tensor: an optional input or output is left out */
    FASTCONV_FLOAT32 = 1,
    FASTCONV_FLOAT64 = 2,
    FASTCONV_UINT8 = 3,
    FASTCONV_INT64 = 4
} fastconv_dtype;

#define FASTCONV_MAX_RANK 8

/* A tensor: dense memory in row-major order, aligned to its type. The inputs input_sizes, filter_sizes, output_shape
 * and orig_input_shape ("sizes") are tensors of int64 with one dimension. */
typedef struct fastconv_tensor {
    int32_t dtype; /* a fastconv_dtype */
    int32_t rank;
    int64_t dims[FASTCONV_MAX_RANK];
    void* data; /* may be null if there are no elements; inputs are only read */
} fastconv_tensor;

/* The value is either a word ("SAME", "NCHW", "relu", "direct") in `text`, or `count` numbers in `numbers`. The other
 * pointer is null. strides, dilations, ksize, pool_size and pool_strides take 1, 2 (height, width) or 4 numbers (in
 * data_format order). padding and pool_padding take 1, 2, 4 (top, bottom, left, right) or 8 (four pairs in data_format
 * order). output_padding takes 1 or 2 numbers. activation is a name ("silu") or a name with parameters
 * ("leaky_relu(0.2)", "elu(1)", "hard_sigmoid(0.2, 0.5)", "clip(0, 6)"); parameters other than clip's may be left out.
 * An attribute that is left out has its default. ksize and pool_size have no default. output_size makes a pooling
 * adaptive and takes 1 or 2 numbers (height, width). The number -1 keeps the input's size. With output_size, no other
 * attribute of the window may be given. */
typedef struct fastconv_attribute {
    const char* name;
    const char* text;
    const int64_t* numbers;
    size_t count;
} fastconv_attribute;

/* The name of operation `index`, counted from 0. Null after the last one. */
FASTCONV_C_API const char* fastconv_operation_name(size_t index);

/* Sets dtype, rank and dims of the outputs. Reads no data of the inputs except sizes. */
FASTCONV_C_API int fastconv_infer(const char* operation, const fastconv_tensor* inputs, size_t input_count,
                                  const fastconv_attribute* attributes, size_t attribute_count,
                                  fastconv_tensor* outputs, size_t output_count, char* message, size_t message_size);

/* Writes the outputs into the caller's tensors. Their dtype, rank and dims must be those that fastconv_infer sets. An
 * output must not overlap any other tensor, except that output 0 of relu_bias_grad may be its input 0. */
FASTCONV_C_API int fastconv_run(const char* operation, const fastconv_tensor* inputs, size_t input_count,
                                const fastconv_attribute* attributes, size_t attribute_count, fastconv_tensor* outputs,
                                size_t output_count, char* message, size_t message_size);

/* How many threads a call may use: 1 to 1024. The number applies to the whole process. */
FASTCONV_C_API int fastconv_set_num_threads(int64_t count, char* message, size_t message_size);
FASTCONV_C_API int fastconv_get_num_threads(int64_t* count, char* message, size_t message_size);

#ifdef __cplusplus
}
#endif

#endif
