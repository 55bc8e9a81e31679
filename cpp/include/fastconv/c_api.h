/* All operations of fastconv for callers in C, and in whatever can call C.
 *
 * An operation has a name, inputs and outputs in a fixed order, and attributes by name. These are listed with their
 * meaning in the documentation of the Python functions; input_gradient, include_batch_in_index and depthwise are the
 * numbers 0 or 1. Every function returns a fastconv_code, and on an error it writes a text that says what is wrong.
 * Nothing is read or written before all arguments are found to fit. Any number of threads may call at once. */
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
    FASTCONV_NONE = 0, /* no tensor: an optional input or output that is left out */
    FASTCONV_FLOAT32 = 1,
    FASTCONV_FLOAT64 = 2,
    FASTCONV_UINT8 = 3,
    FASTCONV_INT64 = 4
} fastconv_dtype;

#define FASTCONV_MAX_RANK 8

/* Dense memory in row-major order, aligned to its type. Sizes (input_sizes, filter_sizes, output_shape,
 * orig_input_shape) are tensors of int64 with one dimension. */
typedef struct fastconv_tensor {
    int32_t dtype; /* a fastconv_dtype */
    int32_t rank;
    int64_t dims[FASTCONV_MAX_RANK];
    void* data; /* may be null if there are no elements; inputs are only read */
} fastconv_tensor;

/* A word ("SAME", "NCHW", "relu", "direct") or numbers: `text`, or `count` of `numbers`. The other one is null.
 * Numbers: 1, 2 (height, width) or 4 (in data_format order) for strides, dilations, ksize and pool_strides; 1, 2,
 * 4 (top, bottom, left, right) or 8 (four pairs in data_format order) for padding and pool_padding. What is left out
 * has its default; ksize has none. */
typedef struct fastconv_attribute {
    const char* name;
    const char* text;
    const int64_t* numbers;
    size_t count;
} fastconv_attribute;

/* The name of an operation, from 0 on; null after the last. */
FASTCONV_C_API const char* fastconv_operation_name(size_t index);

/* Sets dtype, rank and dims of the outputs. Of the inputs, only the data of sizes are read. */
FASTCONV_C_API int fastconv_infer(const char* operation, const fastconv_tensor* inputs, size_t input_count,
                                  const fastconv_attribute* attributes, size_t attribute_count,
                                  fastconv_tensor* outputs, size_t output_count, char* message, size_t message_size);

/* Computes the outputs, tensors of the caller that are as fastconv_infer says. An output overlaps nothing, except that
 * output 0 of relu_bias_grad may be its input 0. */
FASTCONV_C_API int fastconv_run(const char* operation, const fastconv_tensor* inputs, size_t input_count,
                                const fastconv_attribute* attributes, size_t attribute_count, fastconv_tensor* outputs,
                                size_t output_count, char* message, size_t message_size);

/* How many threads a call may use, for the whole process: 1 to 1024. */
FASTCONV_C_API int fastconv_set_num_threads(int64_t count, char* message, size_t message_size);
FASTCONV_C_API int fastconv_get_num_threads(int64_t* count, char* message, size_t message_size);

#ifdef __cplusplus
}
#endif

#endif
