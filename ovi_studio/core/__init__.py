"""What a clip is and what can be requested: specs, prompts, sizes, variants, errors. Imports no torch."""
