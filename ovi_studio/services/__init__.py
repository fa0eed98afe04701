"""The services behind the page and the commands: `Studio` and its parts. Imports no torch."""
