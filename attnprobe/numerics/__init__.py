"""What attention must compute, how far a kernel may be from it, and the data that shows it."""
