"""What the page says about dropped files."""

WORDS = {
    "drop": "Drop files",
    "added": "Added files",
    "replace": "Replace it",
    "keep": "Keep it",
    "dismiss": "Dismiss",
    "refused": "{name} was refused.",
    "notSent": "{name} could not be sent; try again.",
    "kinds": [
        ["Clip (mp4)", "its settings in the form", "added to the library"],
        ["Picture", "the first frame", "the first frame; a poster: its settings"],
        ["LoRA file (.safetensors)", "added to the LoRA files"],
        ["Preset or templates (yaml)", "added to your own"],
        ["Table of prompts (csv, tsv, txt)", "the table of the form"],
    ],
}
"""What the script says; it fills in the braces. Each kind of file: what becomes of it, and what over the library."""
LOG_IN = "Log in first."


def incomplete(name: str) -> str:
    """A file was cut off on its way."""
    return f"{name} did not arrive completely; add it again."


def replaced(names: list[str]) -> str:
    """Several files replaced those of their names."""
    return f"{len(names)} files were replaced: {', '.join(names)}."
