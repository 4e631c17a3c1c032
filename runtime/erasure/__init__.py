"""Forgetting a customer for good."""
