"""Neurons, layers and networks made of Values, and the losses to train them."""

from .activations import Activation
from .composition import Dropout, Residual, Sequential
from .dense import Dense, Embedding
from .initialisation import Generator, constant, he_normal, he_uniform, xavier_normal, xavier_uniform, zeros
from .losses import binary_cross_entropy_with_logits, cross_entropy, hinge, huber, mae, mse, nll
from .module import Module, load
from .neurons import MLP, Layer, Neuron
from .normalisation import BatchNorm, LayerNorm, RMSNorm

__all__ = [
    "MLP", "Activation", "BatchNorm", "Dense", "Dropout", "Embedding", "Generator", "Layer", "LayerNorm",
    "Module", "Neuron", "RMSNorm", "Residual", "Sequential", "binary_cross_entropy_with_logits", "constant",
    "cross_entropy", "he_normal", "he_uniform", "hinge", "huber", "load", "mae", "mse", "nll",
    "xavier_normal", "xavier_uniform", "zeros",
]  # fmt: skip
