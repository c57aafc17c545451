"""`mlfleet drift`: is every host as declared?"""
