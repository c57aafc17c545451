"""`mlfleet lab`: real hosts without machines."""
