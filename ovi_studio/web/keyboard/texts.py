"""What the dialog of keyboard shortcuts says; each tab has the words of its own shortcuts."""

TITLE = "Keyboard shortcuts"
CLOSE = "Close"
EVERYWHERE = "Everywhere"
SHOW = "Show these shortcuts"
NEXT_TAB = "Previous or next tab"
UNDO = "Undo what was just done, while the page offers it"
CLOSE_DIALOG = "Close a dialog"
