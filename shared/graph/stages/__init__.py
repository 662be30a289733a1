"""Write what the workers of each stage found, guarded by versions."""
