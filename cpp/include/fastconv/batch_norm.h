// Batch normalisation: output = activation((input - mean)/sqrt(variance + epsilon)*scale + offset + residual), where
// the mean, the variance, the scale and the offset have a number for each channel.
#pragma once

#include "fastconv/types.h"

namespace fastconv {

/// Made by make_batch_norm_problem. The tensor is images x channels x plane in NCHW, and plane x channels in NHWC,
/// where `images` is 1. Both are the same if there is one channel, which counts as NHWC.
struct BatchNormProblem {
    DataType dtype = DataType::float32;
    DataFormat format = DataFormat::nhwc;
    std::int64_t images = 0, channels = 0, plane = 0;
    double epsilon = 0;
    ActivationFunction activation;

    std::int64_t count() const { return images * plane; } // values of a channel
};

/// Validates the input's shape, which has at least 2 dimensions. In NHWC, the channels are the last one, in NCHW the
/// second one.
FASTCONV_API BatchNormProblem make_batch_norm_problem(DataType dtype, const Dims& input, DataFormat format,
                                                      double epsilon, const ActivationFunction& activation);

/// The inputs of a normalisation besides the statistics. Null stands for a scale of 1, an offset of 0, no residual.
struct BatchNormInputs {
    const void *input, *scale, *offset, *residual;
};

/// Normalises with the mean and the population variance of the batch, which are also results. Without values they are
/// NaN. The output is that of batch_norm_inference with this mean and variance, bit for bit.
FASTCONV_API void batch_norm(const BatchNormProblem& problem, const BatchNormInputs& inputs, void* output, void* mean,
                             void* variance);
/// The mean and the population variance of the batch, as batch_norm finds them.
FASTCONV_API void batch_norm_statistics(const BatchNormProblem& problem, const void* input, void* mean, void* variance);
/// Normalises with a given mean and variance.
FASTCONV_API void batch_norm_inference(const BatchNormProblem& problem, const BatchNormInputs& inputs, const void* mean,
                                       const void* variance, void* output);

/// Gradients with respect to the results of batch_norm. Those of the mean and the variance may be null.
struct BatchNormGradients {
    const void *output, *mean, *variance;
};
/// Gradients with respect to the inputs. That of the residual is null unless there is one.
struct BatchNormInputGradients {
    void *input, *scale, *offset, *residual;
};

/// `mean` and `variance` are the results of batch_norm.
FASTCONV_API void batch_norm_grad(const BatchNormProblem& problem, const BatchNormInputs& inputs, const void* mean,
                                  const void* variance, const BatchNormGradients& gradients,
                                  const BatchNormInputGradients& results);
/// `grad` is the gradient with respect to the output of batch_norm_inference.
FASTCONV_API void batch_norm_inference_grad(const BatchNormProblem& problem, const BatchNormInputs& inputs,
                                            const void* mean, const void* variance, const void* grad,
                                            const BatchNormInputGradients& results);

} // namespace fastconv
