"""Models of the memory and time that a clip takes: formulas, tiers, multi-GPU layouts. Imports no torch."""
