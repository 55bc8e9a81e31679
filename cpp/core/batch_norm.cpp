// Validates the arguments of batch normalisation, for all front ends.
#include "fastconv/batch_norm.h"

#include "core/errors.h"
#include "core/geometry.h"

#include <cmath>

namespace fastconv {

BatchNormProblem make_batch_norm_problem(DataType dtype, const Dims& input, DataFormat format, double epsilon,
                                         const ActivationFunction& activation) {
    if (!(epsilon >= 0) || std::isinf(epsilon)) fail("epsilon must be a finite number and at least 0, got ", epsilon);
    if (input.size() < 2)
        fail("input must have at least 2 dimensions, for the batch and the channels, got shape ", show(input));
    check_size("input", input, dtype, "use smaller dimensions");
    const auto product = [&](std::size_t first, std::size_t last) {
        std::int64_t values = 1;
        for (std::size_t i = first; i < last; ++i) values *= input[i];
        return values;
    };
    BatchNormProblem problem{dtype, format, 1, input.back(), product(0, input.size() - 1), epsilon, activation};
    if (format == DataFormat::nchw) {
        problem.images = input[0];
        problem.channels = input[1];
        problem.plane = product(2, input.size());
    }
    if (problem.channels == 1 || problem.plane == 1) {
        problem.format = DataFormat::nhwc;
        problem.plane *= problem.images;
        problem.images = 1;
    }
    return problem;
}

} // namespace fastconv
