"""The System tab: models, engine, settings and checks."""
