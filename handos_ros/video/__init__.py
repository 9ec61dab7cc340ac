"""Hands over time: which one is which, and smoothing."""
