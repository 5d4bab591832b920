"""`manage.py demo` as a newcomer runs it: started, walked through over HTTP, stopped."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

PROJECT = Path(__file__).parent.parent / "example_project"


@pytest.fixture
def demo(tmp_path, unused_tcp_port_factory):
    site, provider = unused_tcp_port_factory(), unused_tcp_port_factory()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("DJANGO")},
        "DEMO_DATABASE": str(tmp_path / "demo.sqlite3"),
        "DEMO_PROVIDER": f"http://127.0.0.1:{provider}/",
        "PYTHONWARNINGS": "default",
    }
    command = [sys.executable, "-u", "manage.py", "demo", "--port", str(site)]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "Quit the server" in line:
            break
    else:
        pytest.fail("".join(said))
    yield f"http://127.0.0.1:{site}/", environment["DEMO_PROVIDER"], "".join(said)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_demo_from_start_to_signup(demo):
    site, provider, said = demo
    assert site in said
    assert "password: admin" in said
    # runserver says so a moment before it listens.
    session = requests.Session()
    retry = requests.adapters.Retry(connect=20, backoff_factor=0.1)
    session.mount(site, requests.adapters.HTTPAdapter(max_retries=retry))
    assert session.get(site).status_code == 200
    api = f"{site}api/"
    started = session.post(f"{api}verifications/", json={"phone": "8 (916) 123-45-67"})
    assert started.status_code == 201
    (call,) = session.get(f"{provider}calls").json()
    assert call["number"] == "+79161234567"
    assert call["calling_number"] in session.get(site).text
    check = f"{api}verifications/{started.json()['id']}/check/"
    wrong = "0000" if call["code"] != "0000" else "1111"
    assert session.post(check, json={"code": wrong}).json()["error_code"] == "wrong_code"
    token = session.post(check, json={"code": call["calling_number"][-4:]}).json()["token"]
    account = {"username": "ann", "email": "ann@example.com", "password": "correct horse 9"}
    done = session.post(f"{api}signup/", json={**account, "phone_token": token})
    assert done.status_code == 201
    assert session.get(f"{site}admin/login/").status_code == 200
