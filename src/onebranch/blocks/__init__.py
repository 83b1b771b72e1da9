"""Our merge: which branches of which block become which convolutions (the plan), and doing it."""
