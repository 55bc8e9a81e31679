"""Random problems of batch normalisation: calls of the NumPy face, and their results in extended precision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from activation_reference import BOTH

Bounded = tuple[np.ndarray, np.ndarray]  # the exact value and the allowed error
OPTIONAL = ("scale", "offset", "residual")


@dataclass(frozen=True)
class BatchNormProblem:
    seed: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"
    data_format: str = "NHWC"
    activation: Any = None
    optional: tuple[str, ...] = ()
    epsilon: float = 1e-3
    mean: float = 0  # of the input
    given_statistics: bool = False
    of_statistics: bool = False  # whether mean and variance have gradients, too

    @property
    def axis(self) -> int:
        return 1 if self.data_format == "NCHW" else len(self.shape) - 1

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(len(self.shape)) if axis != self.axis)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(self.seed).standard_normal
        channels = self.shape[self.axis]
        arrays = {"input": draw(self.shape) * np.exp2(draw(channels)).reshape(self.row) + self.mean}
        arrays |= {"scale": draw(channels), "offset": draw(channels), "residual": draw(self.shape)}
        arrays |= {"grad": draw(self.shape), "grad_mean": draw(channels), "grad_variance": draw(channels)}
        arrays |= {"mean": self.mean + draw(channels), "variance": draw(channels) ** 2 + 0.5}
        return {name: array.astype(self.dtype) for name, array in arrays.items()}

    @property
    def row(self) -> list[int]:
        """The shape of numbers of channels that are broadcast over the input."""
        return [-1 if axis == self.axis else 1 for axis in range(len(self.shape))]

    @property
    def options(self) -> dict[str, Any]:
        options = {"epsilon": self.epsilon, "data_format": self.data_format, "activation": self.activation}
        return options | {name: self.arrays[name] for name in self.optional}

    def forward(self) -> tuple[str, dict[str, Any]]:
        given = {"input": self.arrays["input"], **self.options}
        if not self.given_statistics:
            return "batch_norm", given
        return "batch_norm_inference", given | {name: self.arrays[name] for name in ("mean", "variance")}

    def backward(self, mean: np.ndarray, variance: np.ndarray) -> tuple[str, dict[str, Any]]:
        given = {name: self.arrays[name] for name in ("input", "grad")} | {"mean": mean, "variance": variance}
        if self.given_statistics:
            return "batch_norm_inference_grad", given | self.options
        of_statistics = ("grad_mean", "grad_variance") if self.of_statistics else ()
        return "batch_norm_grad", given | self.options | {name: self.arrays[name] for name in of_statistics}

    # ---- Exact results ----------------------------------------------------------------------------------------------

    @property
    def eps(self) -> float:
        return float(np.finfo(self.dtype).eps)

    def exact(self, name: str, otherwise: float = 0) -> np.ndarray:
        """An argument in extended precision, broadcast if it belongs to channels."""
        if name in OPTIONAL and name not in self.optional:
            return np.full([1] * len(self.shape), otherwise, np.longdouble)
        array = self.arrays[name].astype(np.longdouble)
        return array.reshape(self.row) if array.ndim == 1 else array

    def statistics(self) -> list[Bounded]:
        """Mean and variance."""
        x = self.exact("input")
        mean = x.mean(self.axes, keepdims=True)
        distance = np.abs(x - mean)
        variance = (distance**2).mean(self.axes)
        allowed = self.eps * (np.abs(mean) + 16 * distance.mean(self.axes, keepdims=True)).ravel()
        return [(mean.ravel(), allowed), (variance, 32 * self.eps * variance)]

    def normalized(self, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray, Bounded]:
        """The distances from the mean in units of the deviation, 1 over the deviation, and z."""
        inverse = 1 / np.sqrt(variance.astype(np.longdouble).reshape(self.row) + self.epsilon)
        unit = (self.exact("input") - mean.astype(np.longdouble).reshape(self.row)) * inverse
        scaled, offset, residual = unit * self.exact("scale", 1), self.exact("offset"), self.exact("residual")
        allowed = 4 * self.eps * (np.abs(scaled) + np.abs(offset) + np.abs(residual))
        return unit, inverse, (scaled + offset + residual, allowed)

    def output(self, mean: np.ndarray, variance: np.ndarray) -> Bounded:
        _, _, (z, allowed) = self.normalized(mean, variance)
        value = BOTH[self.activation][0](z)
        return value, 1.6 * allowed + 6 * self.eps * (np.abs(value) + np.abs(z) * (self.activation == "hard_swish"))

    def gradients(self, mean: np.ndarray, variance: np.ndarray) -> list[Bounded]:
        """Those of input, scale and offset, and of the residual if there is one."""
        unit, inverse, (z, allowed) = self.normalized(mean, variance)
        derivative, grad = BOTH[self.activation][1], self.exact("grad")
        d = grad * derivative(z)
        slopes = [np.asarray(derivative(at), np.longdouble) for at in (z - allowed, z + allowed)]
        error = np.abs(grad) * (np.abs(slopes[0] - slopes[1]) + 10 * self.eps)

        def over_all(values: np.ndarray) -> np.ndarray:
            return values.sum(self.axes, keepdims=True)

        sums = [over_all(d), over_all(d * unit)]
        magnitudes = [over_all(np.abs(d)), over_all(np.abs(d * unit))]
        errors = [over_all(error), over_all(error * np.abs(unit))]
        factor = self.exact("scale", 1) * inverse
        value, near = d * factor, np.abs(factor) * (error + 16 * self.eps * np.abs(d))
        if not self.given_statistics:
            count = np.longdouble(max(1, self.arrays["input"].size // self.shape[self.axis]))
            value = value - factor * (sums[0] + unit * sums[1]) / count
            near = near + np.abs(factor) * (errors[0] + np.abs(unit) * errors[1]) / count
            near = near + 16 * self.eps * np.abs(factor) * (magnitudes[0] + np.abs(unit) * magnitudes[1]) / count
            if self.of_statistics:
                of_mean = self.exact("grad_mean") / count
                of_variance = 2 * self.exact("grad_variance") * unit / inverse / count
                value = value + of_mean + of_variance
                near = near + 16 * self.eps * (np.abs(of_mean) + np.abs(of_variance))
        results = [(value, near)]
        for i in (1, 0):
            results.append((sums[i].ravel(), (errors[i] + 16 * self.eps * magnitudes[i]).ravel()))
        return [*results, (d, error)] if "residual" in self.optional else results


def draw_problems(count: int, seed: int, dtype: str) -> list[BatchNormProblem]:
    problems = []
    activations = list(BOTH)
    for i in range(count):
        rng = np.random.default_rng([seed, i, dtype == "float64"])
        rank = int(rng.integers(2, 6))
        most = {2: 300, 3: 40, 4: 12, 5: 5}[rank]
        shape = [int(size) for size in rng.integers(1, most, rank)]
        data_format = str(rng.choice(["NHWC", "NCHW"]))
        shape[1 if data_format == "NCHW" else -1] = int(rng.choice([1, 2, 3, 6, 8, 17, 33, 70]))
        problems.append(
            BatchNormProblem(
                (seed, i),
                tuple(shape),
                dtype,
                data_format,
                activations[int(rng.integers(len(activations)))] if i % 3 else None,
                tuple(name for name in OPTIONAL if rng.random() < 0.6),
                float(rng.choice([1e-3, 1e-5, 0.1])),
                float(rng.choice([0, 0, 3, -1e4])),
                bool(rng.random() < 0.3),
                bool(rng.random() < 0.5),
            )
        )
    return problems
