"""The commands of `schedctl`, one module for each group of them."""
