"""Embed a tenant again, or move all tenants to another model."""
