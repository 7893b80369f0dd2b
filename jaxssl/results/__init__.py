"""What runs and studies leave: file formats, predictions and verdicts."""
