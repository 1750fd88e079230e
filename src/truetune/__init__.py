"""Fine-tune a language model and see, at every step, what it gained, what it lost, and what it makes up."""

__version__ = "0.1.0"
