"""Check the options of a recipe before its first stage works.

Options have the names of the recipe's; those left out are not looked at. Lists are one
argument, as in the scripts.
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.check_options import RecipeOptions, check_options

main = command(RecipeOptions, check_options, __doc__)

if __name__ == "__main__":
    main()
