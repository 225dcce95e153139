"""Scale-Dropout for binary Bayesian neural networks, on PyTorch Lightning."""

__version__ = "0.1.0"
