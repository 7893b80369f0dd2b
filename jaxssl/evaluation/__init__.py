"""What frozen features and predicted probabilities are worth: scores with intervals, kNN, linear probe, collapse."""
