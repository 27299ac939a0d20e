"""The stages of a recipe: a function and a dataclass of options in each file."""
