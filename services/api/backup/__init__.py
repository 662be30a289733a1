"""Export a tenant as an archive and restore one, ours or AutoMem's."""
