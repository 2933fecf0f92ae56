"""Pictures as numbers: where each mark of an SVG goes and what it says. The templates in templates/charts/ draw them."""
