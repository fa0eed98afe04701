"""Films: shots in order, joined into one file, with captions, and timelines for editors. Imports no torch."""
