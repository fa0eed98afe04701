"""The stage of the Create tab: the clip that was made, the one that is being made, and those of the last hours."""
