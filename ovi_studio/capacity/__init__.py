"""How much memory and time a clip takes: formulas, tiers, layouts of several GPUs. Imports no torch."""
