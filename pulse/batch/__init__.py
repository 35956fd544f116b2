"""Many pictures: what is to do, what was done, and the run that does the rest."""
