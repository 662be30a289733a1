"""Pure rules about memories and tenants; no store and no network."""
