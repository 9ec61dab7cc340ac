"""Public data sets, one file each, all giving the same `Sample`."""
