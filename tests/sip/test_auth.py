"""Digest authentication, as the one who asks and the one who is asked (RFC 7616, RFC 8760; RFC 3261, 22)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sipmessage import Request, Response

from media.sip import auth
from media.sip import message as sip
from media.sip.auth import NONCE_MS, Answerer, Asker, Credentials, Known

NOW_MS = 1_000_000
REALM = 'gate, "one"'
USERS = {"ann": "secret", "bob": 'pa"ss\\,=wörd', "c, d": ""}


# Figures of the RFCs


@pytest.mark.parametrize(
    ("algorithm", "password", "realm", "nonce", "cnonce", "qop", "expected"),
    [
        (  # RFC 7616, 3.9.1
            "MD5",
            "Circle of Life",
            "http-auth@example.org",
            "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            "auth",
            "8ca523f5e9506fed4657c9700eebdbec",
        ),
        (
            "SHA-256",
            "Circle of Life",
            "http-auth@example.org",
            "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            "auth",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
        (  # RFC 2617, 3.5
            "MD5",
            "Circle Of Life",
            "testrealm@host.com",
            "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            "0a4f113b",
            "auth",
            "6629fae49393a05397450978507c4ef1",
        ),
        (  # RFC 2069, 2.4, as corrected
            "MD5",
            "CircleOfLife",
            "testrealm@host.com",
            "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            "",
            "",
            "1949323746fe6a43ef61f9606e7febea",
        ),
    ],
)
def test_figures(algorithm: str, password: str, realm: str, nonce: str, cnonce: str, qop: str, expected: str) -> None:
    secret = auth.secret_of("Mufasa", realm, password, algorithm)
    assert auth.proof(secret, algorithm, "GET", "/dir/index.html", nonce, "00000001", cnonce, qop) == expected


# Both sides together


def register(target: str = "sip:example.com", method: str = "REGISTER") -> Request:
    made = sip.request(method, target)
    made.headers.set("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1")
    made.headers.set("From", "<sip:ann@example.com>;tag=1")
    made.headers.set("To", "<sip:ann@example.com>")
    made.headers.set("Call-ID", "1")
    made.headers.set("CSeq", f"1 {method}")
    return made


def challenge(*values: str, code: int = 401) -> Response:
    made = sip.response(register(), code)
    for value in values:
        made.headers.add("WWW-Authenticate" if code == 401 else "Proxy-Authenticate", value)
    return made


def ask(asker: Asker, now_ms: int = NOW_MS, *, stale: bool = False) -> Response:
    return challenge(*asker.challenges(now_ms, stale=stale))


def said(request: Request, **changed: str) -> Request:
    """With some parameters of its Authorization set to what is given, in quotes."""
    value = request.headers["Authorization"]
    for name, new in changed.items():
        value = re.sub(rf'\b{name}=("(?:[^"\\]|\\.)*"|[^,]*)', lambda _, n=name, v=new: f'{n}="{v}"', value)  # type: ignore[misc]
    request.headers.set("Authorization", value)
    return request


def answered(asker: Asker, user: str = "ann", password: str | None = None, now_ms: int = NOW_MS) -> Request:
    request = register()
    answerer = Answerer(Credentials(user, USERS.get(user, "") if password is None else password))
    assert answerer.answers(request, ask(asker, now_ms))
    return request


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("target", ["sip:example.com", "sip:a%2cb@example.com;x=1", "tel:+123", "sip:[2001:db8::1]"])
def test_who_knows_the_password_passes(user: str, target: str) -> None:
    asker = Asker(REALM, USERS)
    request = register(target)
    assert Answerer(Credentials(user, USERS[user])).answers(request, ask(asker))
    read = sip.parse(sip.write(request))
    assert isinstance(read, Request)
    assert asker.check(read, NOW_MS + 10) == Known(user)


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_either_algorithm(algorithm: str) -> None:
    asker = Asker(REALM, USERS)
    offered = [value for value in asker.challenges(NOW_MS) if f"algorithm={algorithm}" in value]
    request = register()
    assert Answerer(Credentials("ann", "secret")).answers(request, challenge(*offered))
    assert f"algorithm={algorithm}" in request.headers["Authorization"]
    assert asker.check(request, NOW_MS) == Known("ann")


def test_the_strongest_comes_first_and_is_taken() -> None:
    asker = Asker(REALM, USERS)
    assert ["SHA-256" in value for value in asker.challenges(NOW_MS)] == [True, False]
    request = register()
    assert Answerer(Credentials("ann", "secret")).answers(request, challenge(*asker.challenges(NOW_MS)[::-1]))
    assert "algorithm=SHA-256" in request.headers["Authorization"]


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("ann", "Secret"),
        ("ann", ""),
        ("Ann", "secret"),
        ("nobody", "secret"),
        ("", ""),
        ("c, d", "x"),
        ("bob", "secret"),
    ],
)
def test_wrong_users_and_wrong_passwords_are_told_the_same(user: str, password: str) -> None:
    asker = Asker(REALM, USERS)
    assert asker.check(answered(asker, user, password), NOW_MS) is False
    assert not asker._counts


def test_a_user_that_does_not_exist_has_no_password() -> None:
    """Not even the one that stands in for it."""
    asker = Asker(REALM, USERS)
    request = said(answered(asker, "ann"), username="nobody")
    found = auth.parameters(request.headers["Authorization"])
    forged = auth.proof(
        "0", "SHA-256", "REGISTER", found["uri"], found["nonce"], found["nc"], found["cnonce"], found["qop"]
    )
    assert asker.check(said(request, response=forged), NOW_MS) is False


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": "f4240.0011223344556677." + "0" * 32},
        {"nonce": ""},
        {"nonce": "ü"},
        {"nonce": "..."},
        {"response": ""},
        {"response": "ü" * 64},
        {"realm": "other"},
        {"uri": "sip:ann@example.com"},
        {"uri": "\\"},
        {"uri": ""},
        {"qop": "auth-int"},
        {"qop": ""},
        {"nc": "00000002"},
        {"nc": "x"},
        {"nc": "-0000001"},
        {"cnonce": "other"},
        {"algorithm": "MD5"},
        {"algorithm": "SHA-512-256"},
        {"algorithm": "MD5-sess"},
        {"username": "bob"},
    ],
)
def test_a_changed_answer_is_a_wrong_one(changed: dict[str, str]) -> None:
    asker = Asker(REALM, USERS)
    assert asker.check(said(answered(asker), **changed), NOW_MS) is False


def test_the_answer_is_for_one_method_and_one_user() -> None:
    asker = Asker(REALM, USERS)
    value = answered(asker).headers["Authorization"]
    other = register(method="INVITE")
    other.headers.set("Authorization", value)
    assert asker.check(other, NOW_MS) is False
    to_ann, to_bob = register("sip:ann@example.com"), register("sip:bob@example.com")
    assert Answerer(Credentials("ann", USERS["ann"])).answers(to_ann, ask(asker, NOW_MS))
    to_bob.headers.set("Authorization", to_ann.headers["Authorization"])
    assert asker.check(to_bob, NOW_MS) is False


@pytest.mark.parametrize("values", [[], ["Basic YTpi"], ["Digest"], ["Digest "], ["Digest ,,,"], ['Digest realm="']])
def test_no_credentials(values: list[str]) -> None:
    request = register()
    for value in values:
        request.headers.add("Authorization", value)
    assert Asker(REALM, USERS).check(request, NOW_MS) is False


def test_one_of_several_answers_is_enough() -> None:
    asker = Asker(REALM, USERS)
    request = answered(asker)
    right = request.headers["Authorization"]
    request.headers.setlist("Authorization", ['Digest realm="elsewhere", username="x"', "Basic x", right])
    assert asker.check(request, NOW_MS) == Known("ann")


# Nonces


def test_an_old_nonce_is_stale_only_for_who_knows_the_password() -> None:
    asker = Asker(REALM, USERS)
    request, wrong = answered(asker), answered(asker, password="wrong")
    late_ms = NOW_MS + NONCE_MS + 1
    assert asker.check(request, late_ms) is True
    assert asker.check(wrong, late_ms) is False
    # And the answerer tries again, once.
    answerer = Answerer(Credentials("ann", "secret"))
    assert answerer.answers(request, ask(asker, late_ms, stale=True))
    assert asker.check(request, late_ms) == Known("ann")


def test_a_nonce_is_good_for_its_time() -> None:
    asker = Asker(REALM, USERS)
    assert asker.check(answered(asker), NOW_MS + NONCE_MS) == Known("ann")
    assert asker.check(answered(asker), NOW_MS - 1) is True  # made in the future: not by this run of ours


def test_a_nonce_of_another_asker_is_wrong() -> None:
    assert Asker(REALM, USERS).check(answered(Asker(REALM, USERS)), NOW_MS) is False


def test_what_was_overheard_cannot_be_said_again() -> None:
    asker = Asker(REALM, USERS)
    request = answered(asker)
    assert asker.check(request, NOW_MS) == Known("ann")
    assert asker.check(request, NOW_MS) is True


def test_a_nonce_may_be_used_often_with_a_rising_count() -> None:
    asker = Asker(REALM, USERS)
    answerer, offered = Answerer(Credentials("ann", "secret")), ask(asker)
    requests = []
    for _ in range(3):
        requests.append(register())
        assert answerer.answers(requests[-1], offered)
    counts = [auth.parameters(request.headers["Authorization"])["nc"] for request in requests]
    assert counts == ["00000001", "00000002", "00000003"]
    assert asker.check(requests[0], NOW_MS) == Known("ann")
    assert asker.check(requests[2], NOW_MS) == Known("ann")
    assert asker.check(requests[1], NOW_MS) is True


def test_without_a_count_a_nonce_is_good_once() -> None:
    """As RFC 2069 had it."""
    asker = Asker(REALM, USERS)
    offered = [re.sub(r', qop="auth"', "", value) for value in asker.challenges(NOW_MS)]
    request = register()
    assert Answerer(Credentials("ann", "secret")).answers(request, challenge(*offered))
    assert "qop" not in auth.parameters(request.headers["Authorization"])
    assert asker.check(request, NOW_MS) == Known("ann")
    assert asker.check(request, NOW_MS) is True


def test_nonces_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_NONCES", 5)
    asker = Asker(REALM, USERS)
    for _ in range(20):
        assert asker.check(answered(asker), NOW_MS) == Known("ann")
    assert len(asker._counts) == 5


# Challenges of others


def answer_to(*values: str, realm: str = "", code: int = 401) -> dict[str, str] | None:
    request = register()
    if not Answerer(Credentials("ann", "secret", realm)).answers(request, challenge(*values, code=code)):
        return None
    header = "Authorization" if code == 401 else "Proxy-Authorization"
    return auth.parameters(request.headers[header])


def test_a_challenge_of_a_proxy() -> None:
    found = answer_to('Digest realm="p", nonce="n"', code=407)
    assert found is not None
    assert found["realm"] == "p"


def test_all_that_was_asked_is_given_back() -> None:
    found = answer_to(
        'DIGEST  Realm = "a, \\"b\\\\" ,nonce="n\\"1,2" , opaque="x,=\\"y" , QOP="auth-int,Auth",stale=FALSE'
    )
    assert found is not None
    assert (found["realm"], found["nonce"], found["opaque"]) == ('a, "b\\', 'n"1,2', 'x,="y')
    assert (found["qop"], found["nc"], found["username"]) == ("auth", "00000001", "ann")
    secret = auth.secret_of("ann", 'a, "b\\', "secret", "MD5")
    expected = auth.proof(secret, "MD5", "REGISTER", "sip:example.com", 'n"1,2', "00000001", found["cnonce"], "auth")
    assert found["response"] == expected


@pytest.mark.parametrize(
    "values",
    [
        (),
        ('Basic realm="x"',),
        ("Digest",),
        ('Digest realm="x"',),
        ('Digest realm="x", nonce=""',),
        (f'Digest realm="x", nonce="{"n" * (auth.MAX_NONCE_CHARS + 1)}"',),
        ('Digest realm="x", nonce="n", algorithm=SHA-512-256',),
        ('Digest realm="x", nonce="n", algorithm=MD5-sess',),
        ('Digest realm="x", nonce="n", qop="auth-int"',),
        ('Digest realm="never closed, nonce="n"',),
    ],
)
def test_challenges_that_cannot_be_answered(values: tuple[str, ...]) -> None:
    assert answer_to(*values) is None


def test_only_our_realm_is_answered_where_we_have_one() -> None:
    assert answer_to('Digest realm="x", nonce="n"', realm="y") is None
    found = answer_to('Digest realm="x", nonce="n"', 'Digest realm="y", nonce="m"', realm="y")
    assert found is not None
    assert found["nonce"] == "m"


def test_a_wrong_password_is_not_tried_twice() -> None:
    answerer, request = Answerer(Credentials("ann", "secret")), register()
    first = challenge('Digest realm="x", nonce="n"')
    assert answerer.answers(request, first)
    assert not answerer.answers(request, first)
    assert not answerer.answers(request, challenge('Digest realm="x", nonce="m"'))
    assert not answerer.answers(request, challenge('Digest realm="x", nonce="n", stale=true'))
    assert answerer.answers(request, challenge('Digest realm="x", nonce="m", stale=TRUE'))


def test_the_password_is_in_no_text() -> None:
    assert "secret" not in repr(Credentials("ann", "secret"))
    request = answered(Asker(REALM, USERS))
    assert b"secret" not in sip.write(request)


# Reading


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ('Digest a=1, B="2",c = 3 ', {"a": "1", "b": "2", "c": "3"}),
        ('Digest a="x,y=\\"z\\\\"', {"a": 'x,y="z\\'}),
        ("Digest a=1,a=2", {"a": "1"}),
        ("Digest a=1 b=2", {}),
        ('Digest a=1, b="x', {"a": "1"}),
        ("Digest a=", {"a": ""}),
        ("Digest ", {}),
        ("", {}),
        ("Digest " + ",".join(f"p{n}=1" for n in range(100)), {f"p{n}": "1" for n in range(auth.MAX_PARAMETERS)}),
    ],
)
def test_parameters(value: str, found: dict[str, str]) -> None:
    assert auth.parameters(value) == found


@given(st.text(max_size=100), st.text(max_size=100), st.text(max_size=20))
def test_hostile_headers_are_wrong_and_nothing_else(first: str, second: str, third: str) -> None:
    asker = Asker("r", {"ann": "secret"})
    request = register()
    request.headers.add("Authorization", f"Digest {first}")
    request.headers.add(
        "Authorization", f'Digest realm="r", username="{third}", nonce="{second}", response="{first}", uri="{third}"'
    )
    assert asker.check(request, NOW_MS) is False
    answer_to(f"Digest {first}", f'Digest nonce="n", realm="{second}", opaque="{third}"')


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), max_size=30), st.text(max_size=30))
def test_any_user_with_any_password_passes(user: str, password: str) -> None:
    try:
        password.encode()
    except UnicodeEncodeError:
        return
    asker = Asker(REALM, {user: password})
    request = register()
    assert Answerer(Credentials(user, password)).answers(request, ask(asker))
    assert asker.check(request, NOW_MS) == Known(user)
