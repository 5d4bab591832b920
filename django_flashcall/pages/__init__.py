"""The HTML pages: a visitor verifies a number and signs up without any view of the site's own."""
