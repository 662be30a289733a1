"""Model providers that answer as a test scripts them."""
