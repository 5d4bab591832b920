"""`manage.py demo` as a newcomer runs it: started, walked through over HTTP, stopped."""

import re
import socket
import time

import pytest
import requests

from .demo import Demo, running_demo

PASSWORD = "correct horse 9"


class Visitor(requests.Session):
    """A browser without scripts: it keeps cookies and fills forms in."""

    def __init__(self, demo: Demo) -> None:
        super().__init__()
        self.demo = demo

    def look(self, path: str) -> requests.Response:
        page = self.get(self.demo.site + path)
        assert page.status_code == 200
        assert page.headers["Content-Security-Policy"] == "default-src 'self'"
        return page

    def submit(self, page: requests.Response, path: str = "", **fields: str) -> requests.Response:
        """Send the form of a page, to its own address if no path is given."""
        token = re.search('name="csrfmiddlewaretoken" value="(.+?)"', page.text)[1]
        url = self.demo.site + path if path else page.url
        return self.post(url, {**fields, "csrfmiddlewaretoken": token})

    def prove(self, page: requests.Response, number: str, path: str = "") -> requests.Response:
        """Have a number called, and type what the virtual phone shows."""
        check = self.submit(page, path, phone=number, channel="flash_call")
        digits = re.search("<mark>([0-9]{4}|[0-9]{6})</mark>", self.look("virtual-phone/").text)[1]
        return self.submit(check, code=digits)

    def sign_up(self, username: str, number: str) -> requests.Response:
        start = self.look("phone/signup/")
        assert start.url.startswith(f"{self.demo.site}phone/?next=")
        account = self.prove(start, number)
        assert account.url.startswith(f"{self.demo.site}phone/signup/")
        email = f"{username}@example.com"
        return self.submit(account, username=username, email=email, password=PASSWORD)


@pytest.fixture
def visitor(demo):
    return Visitor(demo)


def test_what_is_printed(demo):
    assert f"Open this:      {demo.site}" in demo.said
    assert "password: admin" in demo.said
    assert requests.get(f"{demo.site}admin/login/").status_code == 200


def test_the_way_of_the_readme_by_the_api(demo):
    api = f"{demo.site}api/"
    started = requests.post(f"{api}verifications/", json={"phone": "8 (916) 123-45-67"})
    assert started.status_code == 201
    call = requests.get(f"{demo.provider}calls").json()[0]
    assert call["number"] == "+79161234567"
    check = f"{api}verifications/{started.json()['id']}/check/"
    wrong = "0000" if call["code"] != "0000" else "1111"
    assert requests.post(check, json={"code": wrong}).json()["error_code"] == "wrong_code"
    token = requests.post(check, json={"code": call["calling_number"][-4:]}).json()["token"]
    account = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
    done = requests.post(f"{api}signup/", json={**account, "phone_token": token})
    assert done.status_code == 201


def test_the_home_page_signs_up(visitor):
    home = visitor.look("")
    path = re.search('action="/(phone/[^"]+)"', home.text)[1]
    account = visitor.prove(home, "8 916 100-00-01", path)
    profile = visitor.submit(account, username="bob", email="bob@example.com", password=PASSWORD)
    assert profile.url == f"{visitor.demo.site}profile/"
    assert "+79161000001" in profile.text


def test_login_and_change_of_number(demo, visitor):
    visitor.sign_up("cid", "8 916 100-00-02")
    profile = visitor.look("profile/")
    assert "+79161000002" in profile.text
    visitor.submit(profile, "logout/")
    assert visitor.look("profile/").url == f"{demo.site}phone/login/?next=/profile/"
    login = visitor.look("login/")
    back = visitor.submit(login, username="cid", password=PASSWORD, next="/profile/")
    assert back.url == f"{demo.site}profile/"

    start = visitor.look("phone/number/change/?next=/profile/")
    assert "+7******0002" in start.text
    changed = visitor.prove(start, "8 916 100-00-03")
    assert changed.url == f"{demo.site}profile/"
    assert "+79161000003" in changed.text
    assert "+79161000002" not in changed.text


def test_login_by_phone(demo, visitor):
    demo.manage("shell", "-c", GIVE_TO_ADMIN.format("+79161000006"))
    assert 'href="/phone/login/"' in visitor.look("").text
    login = visitor.look("profile/")
    assert login.url == f"{demo.site}phone/login/?next=/profile/"
    profile = visitor.prove(login, "8 916 100-00-06")
    assert profile.url == f"{demo.site}profile/"
    assert "+79161000006" in profile.text
    visitor.submit(profile, "logout/")
    assert "/phone/login/" in visitor.look("profile/").url


def test_a_number_of_another_account_is_refused(demo, visitor):
    demo.manage("shell", "-c", GIVE_TO_ADMIN.format("+79161000007"))
    visitor.sign_up("dan", "8 916 100-00-05")
    refused = visitor.prove(visitor.look("phone/number/change/"), "8 916 100-00-07")
    assert "This number has an account already" in refused.text
    assert "+79161000005" in visitor.look("profile/").text


def test_the_phone_says_a_voice_code_and_stays_silent_when_busy(visitor):
    visitor.submit(visitor.look("phone/"), phone="8 916 100-00-04", channel="voice_code")
    assert "“Your code is" in visitor.look("virtual-phone/").text
    visitor.submit(visitor.look("phone/"), phone="8 916 101-99-66", channel="flash_call")
    screen = visitor.look("virtual-phone/").text
    assert 'class="vp-call"' not in screen
    assert "Could not get through" in screen


def test_delivery_reports_reach_the_site(demo):
    api = f"{demo.site}api/verifications/"
    started = requests.post(api, json={"phone": "8 916 100-99-66"}).json()  # busy
    for _ in range(300):
        call = requests.get(f"{api}{started['id']}/").json()["call"]
        if call["status"] == "undelivered":
            break
        time.sleep(0.1)
    assert call == {"status": "undelivered", "error_code": "busy"}


def test_a_taken_port_is_named(demo, unused_tcp_port):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        for again in (demo.again(port, unused_tcp_port), demo.again(unused_tcp_port, port)):
            assert again.returncode == 1
            assert f"Port {port} is taken" in again.stdout
            assert "Traceback" not in again.stdout


def test_the_phone_without_its_provider(demo, unused_tcp_port):
    said = demo.manage("shell", "-c", SCREEN, DEMO_PROVIDER=f"http://127.0.0.1:{unused_tcp_port}/")
    assert "No network" in said.stdout


GIVE_TO_ADMIN = """
from django.contrib.auth import get_user_model
from django_flashcall.models import Phone
admin = get_user_model().objects.get(username="admin")
Phone.objects.filter(owner=admin).update(owner=None)
Phone.objects.create(number="{}", owner=admin)
"""

SCREEN = """
from django.test import Client
print(Client().get("/virtual-phone/").text)
"""


def test_the_api_is_described(demo):
    schema = requests.get(f"{demo.site}api/schema/?format=json").json()
    assert "/api/verifications/{id}/check/" in schema["paths"]
    page = requests.get(f"{demo.site}api/swagger/")
    assert page.status_code == 200
    assert "script-src" not in page.headers["Content-Security-Policy"]


def test_with_django_allauth(tmp_path, unused_tcp_port_factory):
    settings = {"DJANGO_SETTINGS_MODULE": "example.settings_allauth"}
    with running_demo(tmp_path, unused_tcp_port_factory, **settings) as demo:
        visitor = Visitor(demo)
        number = "8 916 123-45-67"
        verify = visitor.submit(visitor.look("accounts/signup/"), phone=number, password1=PASSWORD)
        assert verify.url == f"{demo.site}accounts/phone/verify/"
        assert "The code is the last 4 digits of the number that calls." in verify.text
        digits = re.search("<mark>([0-9]{4})</mark>", visitor.look("virtual-phone/").text)[1]
        assert visitor.submit(verify, code=digits).url == f"{demo.site}profile/"
        api = requests.post(
            f"{demo.site}_allauth/app/v1/auth/login",
            json={"phone": "+79161234567", "password": PASSWORD},
        )
        assert api.json()["meta"]["is_authenticated"]


@pytest.mark.parametrize(
    ("package", "register", "passwords", "key"),
    [
        ("rest_auth", "auth/registration/", ("password1", "password2"), "key"),
        ("djoser", "auth/users/", ("password",), "auth_token"),
    ],
)
def test_with_an_api_of_accounts(
    tmp_path, unused_tcp_port_factory, package, register, passwords, key
):
    settings = {"DJANGO_SETTINGS_MODULE": f"example.settings_{package}"}
    with running_demo(tmp_path, unused_tcp_port_factory, **settings) as demo:

        def post(path, **data):
            response = requests.post(demo.site + path, json=data)
            while response.status_code == 429:  # the cooldown of the number
                time.sleep(response.json()["retry_after"])
                response = requests.post(demo.site + path, json=data)
            assert response.ok, response.text
            return response.json()

        def verify(number, purpose):
            started = post("api/verifications/", phone=number, purpose=purpose)
            page = requests.get(f"{demo.site}virtual-phone/").text
            code = re.search("<mark>([0-9]{4,6})</mark>", page)[1]
            return post(f"api/verifications/{started['id']}/check/", code=code)["token"]

        account = {"username": "ann", "email": "ann@example.com"} | dict.fromkeys(
            passwords, PASSWORD
        )
        refused = requests.post(demo.site + register, json=account)
        assert (refused.status_code, set(refused.json())) == (400, {"phone_token"})
        post(register, **account, phone_token=verify("+79161234567", "signup"))
        assert set(post("api/login/", phone_token=verify("+79161234567", "login"))) == {key}
        assert requests.get(f"{demo.site}api/schema/").ok
