"""Configuration: fields, checks and presets."""
