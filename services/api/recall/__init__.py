"""GET /recall: parameters → candidates → one hydrating query → pure ranking → answer."""
