"""Wait for conditions; no test sleeps and hopes."""
