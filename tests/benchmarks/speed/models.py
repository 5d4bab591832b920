"""The user model of the measured site; drfpasswordless needs one with a mobile number."""

from __future__ import annotations

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class User(AbstractBaseUser):
    mobile = models.CharField(max_length=16, unique=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "mobile"

    def __str__(self) -> str:
        return self.mobile
