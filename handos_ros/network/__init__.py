"""The HandOS network: a frozen detector, a side network and an interactive 2D-3D decoder."""
