"""DNS: what a domain publishes about its mail."""
