"""A device of django-otp that calls: the second factor is a code of ours."""
