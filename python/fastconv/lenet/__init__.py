"""LeNet-5 on MNIST, as ``fastconv lenet`` trains it."""
