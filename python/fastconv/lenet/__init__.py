"""LeNet-5 on MNIST, as ``fastconv lenet`` trains it. The model is in `fastconv.lenet.model`."""

from fastconv.lenet.data import Digits, load_digits, mnist_subset

__all__ = ["Digits", "load_digits", "mnist_subset"]
