"""Metrics, and one protocol per benchmark."""
