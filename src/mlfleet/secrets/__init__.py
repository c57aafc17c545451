"""`mlfleet init`: the secrets of a deployment."""
