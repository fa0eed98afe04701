"""Measurements that anyone can repeat: steps, adapters, clips."""
