"""The product as its users run it, or parts of it in this process."""
