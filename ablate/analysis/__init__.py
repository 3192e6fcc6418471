"""From trials and predictions to effects, power, plots and a report; works from files alone."""
