"""Floor 6: the command line, one thin file a verb."""
