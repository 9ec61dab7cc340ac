"""Losses, assignment, augmentation and the training loop."""
