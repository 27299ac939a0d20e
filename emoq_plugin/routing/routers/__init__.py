"""Routers, one file a family; every subclass of `routing.base.Router` here is found."""
