"""Training: the step, the loop, checkpoints, devices, processes and metrics."""
