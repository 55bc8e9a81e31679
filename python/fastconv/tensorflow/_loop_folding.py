"""Merges the axis of a vectorized loop into an axis of an op."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from fastconv.tensorflow._tensorflow_internals import NotVectorizable

BATCH = 0

#: An integer, or a scalar tensor if the size is not known while the graph is built.
Size = Any


def sizes_of(tensor: tf.Tensor) -> list[Size]:
    if tensor.shape.rank is None:
        raise NotVectorizable("the rank of a tensor is not known")
    known, dynamic = tensor.shape.as_list(), tf.shape(tensor)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(known)]


class Operand(NamedTuple):
    """An input of an op in a loop: a tensor that all iterations share, or the stack of their tensors."""

    tensor: tf.Tensor
    stacked: bool

    @property
    def sizes(self) -> list[Size]:
        """The shape in one iteration."""
        return sizes_of(self.tensor)[int(self.stacked) :]


class Loop(NamedTuple):
    """A loop with `length` iterations."""

    length: Size

    def stack(self, x: Operand) -> tf.Tensor:
        """The tensors of all iterations, stacked along a new first axis."""
        return x.tensor if x.stacked else tf.broadcast_to(x.tensor[None], [self.length, *x.sizes])

    def folded_sizes(self, sizes: list[Size], axis: int) -> list[Size]:
        """The sizes after `fold`."""
        return [*sizes[:axis], self.length * sizes[axis], *sizes[axis + 1 :]]

    def fold(self, x: Operand, axis: int, groups: Size | None = None) -> tf.Tensor:
        """The tensors of all iterations, concatenated along `axis`, separately in each of its groups."""
        sizes, stacked = x.sizes, self.stack(x)
        if axis != BATCH or groups is not None:
            groups = 1 if groups is None else groups
            parts = [*sizes[:axis], groups, sizes[axis] // groups, *sizes[axis + 1 :]]
            order = [*range(1, axis + 2), 0, *range(axis + 2, len(sizes) + 2)]
            stacked = tf.transpose(tf.reshape(stacked, [self.length, *parts]), order)
        return tf.reshape(stacked, self.folded_sizes(sizes, axis))

    def unfold(self, y: tf.Tensor, axis: int, size: Size, groups: Size | None = None) -> tf.Tensor:
        """Undo `fold` for an axis that has `size` elements in one iteration."""
        sizes = sizes_of(y)
        before, after = sizes[:axis], sizes[axis + 1 :]
        if axis != BATCH or groups is not None:
            groups = 1 if groups is None else groups
            parts = tf.reshape(y, [*before, groups, self.length, size // groups, *after])
            y = tf.transpose(parts, [axis + 1, *range(axis + 1), *range(axis + 2, len(sizes) + 2)])
        return tf.reshape(y, [self.length, *before, size, *after])
