"""The charts of a study's page, as inline SVG."""
