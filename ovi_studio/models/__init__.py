"""The models. Each is built from its own section of a variant's dimensions (`Variant.dimensions`)."""
