"""Hands drawn over the picture that they were found in."""
