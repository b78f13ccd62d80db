"""A second device, for machines that have no GPU."""
