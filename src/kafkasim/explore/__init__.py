"""Exploration: trials of a scenario under many seeds and fault plans, and what is made of those that fail."""
