"""The commands of `python -m ovi_studio`, one file each. Imports no torch until a command needs it."""
