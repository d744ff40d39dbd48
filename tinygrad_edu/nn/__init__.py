"""Neurons, layers and networks of scalar nodes, and the losses to train them with."""

from .initialisation import Generator
from .losses import cross_entropy, hinge, mse
from .modules import MLP, Layer, Module, Neuron

__all__ = ["MLP", "Generator", "Layer", "Module", "Neuron", "cross_entropy", "hinge", "mse"]
