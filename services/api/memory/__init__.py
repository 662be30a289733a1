"""Store, read, change, delete and list memories."""
