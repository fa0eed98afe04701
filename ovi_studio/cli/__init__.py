"""The commands of `python -m ovi_studio`, one file each. torch is imported only when a command needs it."""
