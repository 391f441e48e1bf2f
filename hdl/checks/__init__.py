"""The checks of `check.py` and the code that runs them."""
