"""Secrets are taken out of texts, whatever form they have there; what is no secret stays."""

from __future__ import annotations

import io
import json
import sys
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikes_assets.core import secrets
from bikes_assets.core.errors import DataError, LineageError
from bikes_assets.core.secrets import guard, learn, scrubbed, shown
from bikes_assets.core.transient import without_secrets

PASSWORD = "p@ss/w:rd%1 #?"
URL = f"postgresql+psycopg2://alice:{quote(PASSWORD, safe='')}@db.example:5432/bikes"


@pytest.fixture(autouse=True)
def nothing_learned():
    before = dict(secrets._learned)
    secrets._learned.clear()
    secrets._pattern.cache_clear()
    yield
    secrets._learned.clear()
    secrets._learned.update(before)
    secrets._pattern.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET http://alice:pw@h/x failed", "GET http://***@h/x failed"),
        ("at https://ghp_token@h/x.git.", "at https://***@h/x.git."),
        ("https://h/x?sig=abc&part=2", "https://h/x?sig=***&part=2"),
        (
            "https://h/x?X-Amz-Credential=abc&X-Amz-Signature=def",
            "https://h/x?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("connect host=h password=pw user=u", "connect host=h password=*** user=u"),
        ("connect password = 'p w\\'x' host=h", "connect password = *** host=h"),
    ],
)
def test_what_has_the_shape_of_a_secret_is_hidden(text, expected):
    assert scrubbed(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "expected one like postgresql+psycopg2://user:password@host/database, or none",
        "http://127.0.0.1:3000/assets/x?view=partitions&partition=2012-08",
        "http://127.0.0.1:5000/#/experiments/1/runs/2 is of demand_model@3",
        "demand_features[2012-08]@17, digest 9a8f5fd84df28368d3cd359d3b3f38d9",
        "s3://bucket/prefix/demand_model@champion",
    ],
)
def test_what_is_no_secret_stays(text):
    learn({"BIKES_DAGSTER_STORAGE": "postgresql://bikes:bikes@127.0.0.1/bikes", "X": "http://proxy.example:3128/"})
    assert scrubbed(text) == text


@pytest.mark.parametrize(
    "form",
    [
        PASSWORD,
        quote(PASSWORD, safe=""),
        quote(PASSWORD),
        quote(PASSWORD, safe="").lower(),
        json.dumps(PASSWORD)[1:-1],
        repr(PASSWORD)[1:-1],
        f"alice:{quote(PASSWORD, safe='')}",
        URL,
    ],
)
def test_what_was_learned_is_hidden_in_every_form(form):
    learn({"BIKES_SOURCE": URL})
    assert form not in scrubbed(f"OperationalError: ({form}) refused")


def test_secrets_of_the_environment_are_hidden_and_names_are_not():
    learn(
        {
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
            "MLFLOW_TRACKING_TOKEN": "tok-123456",
            "PGPASSWORD": "letmein99",
            "DSN": "host=h password=dsn-secret",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "HOME": "/home/alice",
            "TOKENIZERS_PARALLELISM": "false",
        }
    )
    text = "wJalrXUtnFEMI/K7MDENG wJalrXUtnFEMI%2FK7MDENG tok-123456 letmein99 dsn-secret AKIDEXAMPLE /home/alice false"
    assert scrubbed(text) == "*** *** *** *** *** AKIDEXAMPLE /home/alice false"


def test_a_short_secret_is_hidden_in_what_is_said_of_its_url_alone():
    learn({"BIKES_SOURCE": "http://u:abc@h/x.csv?sig=s1"})
    assert scrubbed("abc s1 http://u:abc@h/x.csv?sig=s1") == "abc s1 http://***@h/x.csv?***"
    assert scrubbed("abc s1", "http://u:abc@h/x.csv?sig=s1") == "*** ***"


def test_a_url_is_shown_without_user_password_and_query():
    assert shown("http://u:p/@x@h/f.csv?token=1") == "http://***@h/f.csv?***"
    assert shown("/data/a?b@c") == "/data/a?b@c"


PARTS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="*|"), min_size=8, max_size=20)


@settings(deadline=None, max_examples=100)
@given(password=PARTS, token=PARTS, host=st.sampled_from(["h", "127.0.0.1:9"]))
def test_no_url_of_a_setting_leaves_its_secrets_in_any_text(password, token, host):
    # Given a URL as people have to write it, and a library that repeats it, or parts of it, in one form or the other
    secrets._learned.clear()
    url = f"https://alice:{quote(password, safe='')}@{host}/x?token={quote(token, safe='')}"
    learn({"BIKES_MLFLOW_TRACKING_URI": url})
    text = f"{url} | {password} | {quote(password)} | {token!r} | {json.dumps({'t': token})} | {quote(token, safe='')}"
    # Then nothing of them is left
    left = scrubbed(text)
    for secret in (password, token):
        for form in (secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]):
            assert form not in left


def test_messages_of_errors_are_scrubbed_as_they_are_made():
    learn({"BIKES_SOURCE": URL})
    error = LineageError(f"{URL}: refused {PASSWORD}")
    assert PASSWORD not in repr(error)
    assert str(error) == "postgresql+psycopg2://***@db.example:5432/bikes: refused ***"
    assert PASSWORD not in str(DataError(URL, found=PASSWORD, expected="rows"))


def test_an_error_whose_causes_tell_a_secret_is_replaced_and_another_is_not():
    learn({"BIKES_SOURCE": URL})
    plain = ValueError("no rows")
    assert without_secrets(plain) is plain
    told = without_secrets(ValueError(f"cannot connect to {URL}"))
    assert str(told) == "ValueError: cannot connect to postgresql+psycopg2://***@db.example:5432/bikes"
    ours = LineageError("it failed")
    ours.__cause__ = ValueError(PASSWORD)
    assert without_secrets(ours) is ours
    assert ours.__cause__ is None
    assert ours.__suppress_context__


def test_whatever_is_printed_is_scrubbed_and_never_fails_for_its_characters(monkeypatch):
    learn({"BIKES_SOURCE": URL})
    target = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(target, encoding="ascii", write_through=True))
    guard()
    guard()
    print(f"│ {PASSWORD} é")  # noqa: T201
    assert target.getvalue() == b"? *** ?\n"
