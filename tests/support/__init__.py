"""What tests share; no test lives here."""
