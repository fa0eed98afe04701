"""Access: logins, throttling of wrong ones, and one web process per studio."""

import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from studio_app import APP, Application, running

import app
from ovi_studio.web.guard import FREE_ATTEMPTS, LONGEST_WAIT, LoginLimit, checker, make_password


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with running(tmp_path_factory.mktemp("shared") / "outputs", "--login", "studio:right horse") as found:
        yield found


def log_in(application: Application, password: str, opener: urllib.request.OpenerDirector | None = None) -> int:
    form = urllib.parse.urlencode({"username": "studio", "password": password}).encode()
    try:
        with (opener or urllib.request.build_opener()).open(application.url + "login", form, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_without_a_login_no_request_is_answered(application: Application) -> None:
    job = application.client(auth=("studio", "right horse")).predict("a clip", api_name="/queue")["jobs"][0]
    for path in ("config", "gradio_api/info", f"studio/job/{job}/picture.jpg", f"studio/clip/{'0' * 32}/clip.mp4"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            application.get(path)

    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    assert log_in(application, "right horse", opener) == 200
    assert opener.open(application.url + "config").status == 200
    with pytest.raises(urllib.error.HTTPError, match="404"):
        opener.open(f"{application.url}studio/clip/{'0' * 32}/clip.mp4")


def test_fifty_wrong_logins_are_not_even_looked_at(application: Application) -> None:
    answers = [log_in(application, f"guess {number}") for number in range(50)]
    assert answers.count(400) <= FREE_ATTEMPTS + 2
    assert answers.count(429) >= 44
    assert log_in(application, "right horse") == 429, "the right one has to wait too"


def test_waiting_doubles_up_to_a_limit_and_is_forgotten() -> None:
    now = 0.0
    limit = LoginLimit(lambda: now)
    waits = []
    for _ in range(40):
        if wait := limit.attempt("10.0.0.1"):
            waits.append(wait)
            now += wait
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == LONGEST_WAIT
    now += 4000
    assert limit.attempt("10.0.0.1") == 0


def test_another_address_is_delayed_little_and_one_in_the_same_network_like_the_first() -> None:
    limit = LoginLimit(lambda: 0.0)
    while not limit.attempt("2001:db8::1"):
        pass
    assert limit.attempt("2001:db8::ffff") > 0
    assert limit.attempt("2001:db8:0:1::1") == 0
    for number in range(100):
        limit.attempt(f"10.0.{number}.1")
    assert 0 < limit.attempt("192.168.0.1") <= 10


def test_a_correct_login_resets_the_delay() -> None:
    limit = LoginLimit(lambda: 0.0)
    for _ in range(20):
        assert limit.attempt("10.0.0.1") == 0
        limit.succeeded("10.0.0.1")


def test_passwords_are_compared_whole() -> None:
    check = checker("ä", "pass:word")
    assert check("ä", "pass:word")
    assert not any(check(*given) for given in [("ä", "pass"), ("a", "pass:word"), ("", ""), ("ä", "pass:word ")])
    assert make_password() != make_password()
    assert len(make_password()) == 19


@pytest.mark.parametrize(
    ("arguments", "variables", "login"),
    [
        ([], {}, None),
        (["--host", "localhost"], {}, None),
        (["--listen"], {}, "made"),
        (["--host", "192.168.1.5"], {}, "made"),
        (["--share"], {}, "made"),
        (["--share", "--login", "me:it:self"], {}, ("me", "it:self", False)),
        ([], {"OVI_STUDIO_LOGIN": "me:secret"}, ("me", "secret", False)),
        ([], {"SPACE_ID": "somebody/ovi"}, None),
        ([], {"SPACE_ID": "somebody/ovi", "OVI_STUDIO_LOGIN": "me:secret"}, ("me", "secret", False)),
    ],
)
def test_whether_a_login_is_needed_depends_on_who_can_reach_the_page(
    arguments: list[str], variables: dict[str, str], login: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SPACE_ID", "OVI_STUDIO_LOGIN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = app.login_of(app.parse_arguments(arguments))
    if login == "made":
        assert found[0] == "studio"
        assert found[2]
    else:
        assert found == login


@pytest.mark.parametrize("login", ["", "user", "user:", ":password"])
def test_a_login_without_a_password_is_refused(login: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        app.parse_arguments(["--login", login])
    assert "USER:PASSWORD" in capsys.readouterr().err


def test_a_second_web_process_on_one_studio_is_refused_with_a_message(
    application: Application, python_environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, str(APP), "--port", "0", "--no-open", "--out", str(application.outputs)]
    ended = subprocess.run(
        command, env=python_environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert "Another Ovi Studio" in ended.stderr
    assert "--out" in ended.stderr
