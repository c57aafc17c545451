"""`mlfleet lab`: real hosts without separate machines."""
