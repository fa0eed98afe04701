"""What toasts say besides their messages."""

WORDS = {"undo": "Undo", "dismiss": "Dismiss"}
"""The words of the script."""
UNDONE = "Undone."
