"""Evaluation of frozen features and predicted probabilities: scores, intervals, tests, probe, kNN, calibration."""
