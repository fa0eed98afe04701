"""The models, each built from its part of a variant's dimensions (`Variant.dimensions`)."""
