"""What the page and the commands call: the studio and its parts. Imports no torch."""
