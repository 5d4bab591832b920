"""The HTML pages: visitors verify a number and sign up without any view of your own."""
