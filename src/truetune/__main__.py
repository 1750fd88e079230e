"""`python -m truetune` is `truetune`."""

from truetune.cli import train

train()
