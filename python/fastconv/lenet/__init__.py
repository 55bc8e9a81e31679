"""LeNet-5 on MNIST, as ``fastconv lenet`` trains it: the digits here, the model in `fastconv.lenet.model`."""

from fastconv.lenet.data import Digits, load_digits

__all__ = ["Digits", "load_digits"]
