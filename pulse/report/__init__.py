"""The report: one page over the faces of one run or of several."""
