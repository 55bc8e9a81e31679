"""Frozen networks, which need only NumPy to run."""

from fastconv.network._graph import Graph, Node, Value
from fastconv.network._load import load
from fastconv.network._network import Network, Tensor
from fastconv.network._report import Profile, StepProfile

__all__ = ["Graph", "Network", "Node", "Profile", "StepProfile", "Tensor", "Value", "load"]

Network.__module__ = load.__module__ = "fastconv"  # where users find them
