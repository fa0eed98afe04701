"""The names of the tabs, and their shortcuts that no part of a tab names itself."""

CREATE, QUEUE, LIBRARY, FILM = "Create", "Queue", "Library", "Film"
LORAS, TEMPLATES, SYSTEM = "LoRAs", "Templates", "System"
MOVE_JOB = "Move the job whose button has the focus"
