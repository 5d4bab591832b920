"""The forms by themselves, as a site uses them in its own views."""

import pytest
from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ValidationError
from django.db import transaction

from django_flashcall import services, sessions
from django_flashcall.exceptions import InvalidToken, PhoneTaken, WrongCode
from django_flashcall.forms import (
    CodeField,
    CodeForm,
    PhoneField,
    PhoneForm,
    PhoneTokenField,
    SignupForm,
    VerifiedPhoneMixin,
    add_service_error,
)
from django_flashcall.models import Phone, Verification
from django_flashcall.protection import visitors

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
ANN = {"username": "ann", "email": "ann@example.com", "password": "correct horse 9"}


@pytest.fixture
def request_(rf):
    """A visitor's request, with a session."""
    request = rf.post("/")
    request.session = SessionStore()
    request.session.create()
    request.user = AnonymousUser()
    return request


@pytest.fixture
def verify(request_, outbox):
    """Verify a number in the session of the request, as the pages do."""

    def verify(purpose="signup"):
        session = visitors.bind_session(request_)
        verification = services.start(NUMBER, purpose=purpose, user=request_.user, session=session)
        token = services.check(verification, outbox[-1].code)
        sessions.keep(request_, verification, token)
        return token

    return verify


class TestPhoneForm:
    @pytest.mark.parametrize("typed", ["8 (916) 123-45-67", "+7 916 123 45 67", "٨٩١٦١٢٣٤٥٦٧"])
    def test_a_number_as_people_write_it(self, typed):
        form = PhoneForm({"phone": typed})
        assert form.is_valid()
        assert form.cleaned_data == {"phone": NUMBER}

    def test_what_is_no_number(self):
        form = PhoneForm({"phone": "12"})
        assert form.errors.as_data()["phone"][0].code == "invalid_phone"

    def test_the_site_chooses_the_channel_where_the_visitor_does_not(self, provider):
        form = PhoneForm({"phone": NUMBER})
        assert form.is_valid()
        assert form.cleaned_data == {"phone": NUMBER, "channel": None}

    def test_a_channel_with_too_few_digits_is_not_offered(self, provider, configure):
        configure(PURPOSES={"signup": {}, "login": {"CODE_LENGTH": 6}})
        assert "channel" in PhoneForm(purpose="signup").fields
        assert "channel" not in PhoneForm(purpose="login").fields


class TestCodeForm:
    @pytest.mark.parametrize("typed", ["0042", " 00 42 ", "00-42", "٠٠٤٢"])
    def test_a_code_as_people_type_it(self, typed):
        form = CodeForm({"code": typed}, length=4)
        assert form.is_valid()
        assert form.cleaned_data["code"] == "0042"
        assert "0042" not in repr(form.cleaned_data)

    def test_a_refusal_stands_at_its_field(self):
        form = CodeForm({"code": "0042"}, length=4)
        add_service_error(form, WrongCode(2))
        assert form.errors.as_data()["code"][0].code == "wrong_code"
        assert form.errors["code"] == ["Wrong code. 2 attempts left."]

    def test_a_refusal_without_a_field_here_stands_above_all(self):
        form = CodeForm({"code": "0042"}, length=4)
        add_service_error(form, PhoneTaken())
        assert form.non_field_errors() == ["An account with this phone number already exists."]


class TokenForm(forms.Form):
    phone_token = PhoneTokenField(purpose="signup")

    def __init__(self, *args, request=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["phone_token"].request = request


class TestPhoneTokenField:
    def test_a_token(self, request_, verify):
        form = TokenForm({"phone_token": verify()}, request=request_)
        assert form.is_valid()
        assert services.redeem(
            form.cleaned_data["phone_token"], session=visitors.session_value(request_)
        )

    def test_a_token_is_not_spent_by_looking(self, request_, verify):
        token = verify()
        assert TokenForm({"phone_token": token}, request=request_).is_valid()
        assert TokenForm({"phone_token": token}, request=request_).is_valid()

    @pytest.mark.parametrize("bad", ["", "nonsense", "\x00"])
    def test_a_bad_one(self, request_, bad):
        form = TokenForm({"phone_token": bad}, request=request_)
        assert form.errors == {"phone_token": [str(InvalidToken())]}

    def test_somebody_elses(self, verify):
        assert TokenForm({"phone_token": verify()}).errors == {"phone_token": [str(InvalidToken())]}

    def test_it_can_be_optional(self):
        class Optional(forms.Form):
            phone_token = PhoneTokenField(required=False)

        assert Optional({}).is_valid()

    def test_values_of_json(self):
        class Api(forms.Form):
            phone, code = PhoneField(), CodeField()

        form = Api({"phone": 79161234567, "code": 1234})
        assert form.is_valid(), form.errors
        assert form.cleaned_data == {"phone": NUMBER, "code": "1234"}


class OrderForm(VerifiedPhoneMixin, forms.Form):
    phone_purpose = "order"
    street = forms.CharField()


class TestVerifiedPhoneMixin:
    @pytest.fixture(autouse=True)
    def purposes(self, configure):
        configure(PURPOSES={"signup": {}, "order": {}})

    def test_a_verified_number(self, request_, verify):
        verify("order")
        form = OrderForm({"street": "Main"}, request=request_)
        assert form.is_valid()
        assert form.verification.phone.number == NUMBER
        user = get_user_model().objects.create_user(username="ann")
        assert form.redeem_phone(user).owner == user

    def test_it_is_valid_once(self, request_, verify):
        verify("order")
        form = OrderForm({"street": "Main"}, request=request_)
        assert form.is_valid()
        form.redeem_phone()
        assert not OrderForm({"street": "Main"}, request=request_).is_valid()

    def test_of_a_user_whose_number_it_does_not_become(self, request_, verify):
        request_.user = get_user_model().objects.create_user(username="ann")
        verify("order")
        form = OrderForm({"street": "Main"}, request=request_)
        assert form.is_valid()
        assert form.redeem_phone().owner is None

    def test_without_one(self, request_):
        form = OrderForm({"street": "Main"}, request=request_)
        assert form.errors == {"__all__": [str(InvalidToken())]}

    def test_one_for_another_purpose(self, request_, verify):
        verify("signup")
        assert not OrderForm({"street": "Main"}, request=request_).is_valid()

    def test_a_rollback_leaves_it_unspent(self, request_, verify):
        verify("order")
        form = OrderForm({"street": "Main"}, request=request_)
        assert form.is_valid()
        with transaction.atomic():
            form.redeem_phone()
            transaction.set_rollback(True)
        assert OrderForm({"street": "Main"}, request=request_).is_valid()


class NamedSignupForm(SignupForm):
    class Meta(SignupForm.Meta):
        fields = [*SignupForm.Meta.fields, "first_name"]


class TestSignupForm:
    def test_the_account(self, request_, verify):
        verify()
        form = SignupForm(ANN, request=request_)
        assert form.is_valid(), form.errors
        user = form.save()
        assert user.check_password(ANN["password"])
        assert (user.username, user.email) == ("ann", "ann@example.com")
        assert form.phone.owner == user
        assert Verification.objects.get().redeemed_by == user

    def test_without_a_verified_number(self, request_):
        assert SignupForm(ANN, request=request_).errors == {"__all__": [str(InvalidToken())]}

    def test_it_takes_its_fields_and_nothing_else(self, request_, verify):
        verify()
        form = SignupForm({**ANN, "is_superuser": "on", "phone": "+79990000000"}, request=request_)
        assert form.is_valid()
        assert not form.save().is_superuser
        assert Phone.objects.get().number == NUMBER

    def test_a_sites_own_fields_reach_the_account(self, request_, verify):
        verify()
        form = NamedSignupForm({**ANN, "first_name": "Anna"}, request=request_)
        assert form.is_valid()
        form.save()
        assert get_user_model().objects.get().first_name == "Anna"

    @pytest.mark.parametrize("field", ["last_name", "username"])
    def test_the_number_fills_the_field_of_the_user(self, request_, verify, configure, field):
        configure(USER_PHONE_FIELD=field)
        verify()
        form = SignupForm({**ANN, field: "+79990000000"}, request=request_)
        assert field not in form.fields
        assert form.is_valid(), form.errors
        form.save()
        assert getattr(get_user_model().objects.get(), field) == NUMBER

    def test_a_name_that_somebody_took_meanwhile(self, request_, verify):
        verify()
        form = SignupForm(ANN, request=request_)
        assert form.is_valid()
        get_user_model().objects.create_user(username="ann")
        with pytest.raises(ValidationError):
            form.save()
        assert set(form.errors) == {"username"}
        assert Verification.objects.get().status == "verified"
        assert SignupForm({**ANN, "username": "eve"}, request=request_).is_valid()
