"""Checks of takes: whether the words are right, and faults of sound and picture. Imports no torch by itself."""
