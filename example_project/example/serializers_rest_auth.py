from dj_rest_auth.registration.serializers import RegisterSerializer

from django_flashcall.contrib.rest_auth import PhoneRegisterMixin


class PhoneRegisterSerializer(PhoneRegisterMixin, RegisterSerializer):
    pass
