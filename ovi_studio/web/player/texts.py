"""What the player and the comparison of clips say."""

from ovi_studio.web.keyboard import Shortcut

PLAYER_SHORTCUTS = (
    Shortcut("Space K", "Play or pause the clip"),
    Shortcut(", .", "Previous or next frame"),
    Shortcut("← →", "A second back or forward"),
    Shortcut("< >", "Slower or faster"),
    Shortcut("L", "Loop"),
    Shortcut("M", "Mute"),
    Shortcut("S", "Waveform or spectrogram"),
    Shortcut("F", "Full screen"),
)
"""What the player does with keys."""
WORDS = {
    "player": "Player",
    "play": "Play",
    "pause": "Pause",
    "previous": "Previous frame",
    "next": "Next frame",
    "spectrogram": "Spectrogram",
    "loop": "Loop",
    "mute": "Mute",
    "unmute": "Unmute",
    "volume": "Volume",
    "speed": "Speed",
    "broken": "This clip cannot be played; it may have been moved or deleted.",
    "full": "Full screen",
    "position": "Position",
    "at": "{at} of {duration} seconds",
    "space": "Space",
    "escape": "Esc",
    "speech": "Speech, at estimated times",
    "estimated": "Times of words are estimated",
    "estimatedFrom": "From the prompt and the loudness of the sound",
    "comparison": "Comparison",
    "wipe": "Wipe",
    "wipeBetween": "Wipe between the clips",
    "wiped": "{percent} percent",
    "hear": "Hear this clip",
    "end": "End the comparison",
}
"""What the scripts say; they fill in the braces."""
