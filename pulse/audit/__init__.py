"""For whom does it work? Photographs of known people through the method, measured by group."""
