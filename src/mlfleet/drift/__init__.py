"""`mlfleet drift`: check whether every host is as declared."""
