"""The System tab: models, engine, settings, checks."""
