"""`mlfleet ca`: a deployment's own certificate authority."""
