"""The LoRAs tab: the files in the adapter folder, and which of them the next clip uses."""
