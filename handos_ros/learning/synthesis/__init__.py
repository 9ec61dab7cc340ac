"""Posed hands rendered into scenes, with exact labels, on the CPU or a GPU, from nothing but PyTorch."""
