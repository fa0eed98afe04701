"""What the list of the forms that a clip can be saved in says."""

WORDS = {
    "saveAs": "Save as…",
    "saving": "Saving…",
    "notSaved": "Not saved",
    "forms": {
        "Sound (WAV)": "export.wav",
        "Frame on screen (PNG)": "export.png",
        "Loop (GIF)": "export.gif",
        "Loop (WebP)": "export.webp",
        "Clip and settings (zip)": "export.zip",
    },
}
"""What the script says. `forms` maps the name of each form to its file below the clip's address in `media_routes`."""
