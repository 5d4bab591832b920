from djoser.serializers import UserCreateSerializer

from django_flashcall.contrib.djoser import PhoneUserCreateMixin


class PhoneUserCreateSerializer(PhoneUserCreateMixin, UserCreateSerializer):
    pass
