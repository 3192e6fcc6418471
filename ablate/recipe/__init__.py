"""Recipes: schema, loading, errors. `ablate.Recipe` is in `ablate.recipe.recipe`."""
