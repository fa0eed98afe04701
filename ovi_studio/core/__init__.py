"""What a clip is and what may be asked for: specs, prompts, sizes, variants, errors. Imports no torch."""
