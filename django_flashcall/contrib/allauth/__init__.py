"""Phone verification and login by code of django-allauth, with calls instead of SMS."""
