"""The LoRAs tab: the adapters in the folder, and those that are chosen."""
