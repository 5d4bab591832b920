from allauth.account.adapter import DefaultAccountAdapter

from django_flashcall.contrib.allauth.adapter import FlashcallAdapterMixin


class Adapter(FlashcallAdapterMixin, DefaultAccountAdapter):
    pass
