"""kiosk.toml: what is wrong is told by file and field."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2rec.runtime.errors import IdentityError
from c2rec.runtime.home.settings import (
    Settings,
    changed,
    find_settings,
    parse_document,
    read_settings,
    settings_in,
    settings_path,
)


@given(
    repository=st.sampled_from(["http://h", "https://h:8443/a/b", "/srv/c2rec", "/a b/ä\u2603"]),
    ring=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,49}", fullmatch=True),
    deadline=st.floats(0.01, 604800),
    visitors=st.booleans(),
    bundle=st.none() | st.just('/etc/"quoted"\\ and ü.pem'),
)
def test_what_is_written_is_read(
    repository: str, ring: str, deadline: float, visitors: bool, bundle: str | None
) -> None:
    settings = Settings(
        repository=repository, ring=ring, deadline=deadline, visitors=visitors, ca_bundle=bundle
    )
    assert Settings(**settings_in(parse_document(settings.to_toml()))) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "repository is missing"),
        ("repository = ", "not valid TOML"),
        ('repository = "releases"', r"repository is 'releases'; allowed: an http\(s\) URL, or"),
        ('repository = "ftp://host/x"', "repository is 'ftp"),
        ('repository = "http://"', "repository is"),
        ('repository = "http://h:99999/"', "repository is"),
        ('repository = "https://h/?x=1"', "repository is"),
        ("repository = 5", "repository is 5"),
        ('repository = "/a"\nrepositry = "/b"', "repositry is not a setting; allowed: repository"),
        ('repository = "/a"\nring = "Stable"', "ring is 'Stable'; allowed: 1 to 50 of a–z"),
        ('repository = "/a"\nring = "../x"', "ring is"),
        ('repository = "/a"\nca_bundle = "ca.pem"', "ca_bundle is 'ca.pem'; allowed: the absolute"),
        ('repository = "/a"\nclient_key = "/k.pem"', "client_key is .* without client_cert"),
        ('repository = "/a"\ndeadline = 0', "deadline is 0; allowed: seconds"),
        ('repository = "/a"\ndeadline = true', "deadline is True"),
        ('repository = "/a"\nread_timeout = nan', "read_timeout is nan"),
        ('repository = "/a"\nvisitors = 1', "visitors is 1; allowed: true or false"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    settings_path(tmp_path).write_text(text)
    with pytest.raises(IdentityError, match=rf"kiosk\.toml: {message}"):
        find_settings(tmp_path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    settings_path(tmp_path).write_bytes(b"repository = '\xff'")
    with pytest.raises(IdentityError, match=r"kiosk\.toml: byte 14 is no UTF-8"):
        find_settings(tmp_path)


def test_a_kiosk_that_was_never_enrolled_is_told_how(tmp_path: Path) -> None:
    assert find_settings(tmp_path) is None
    with pytest.raises(IdentityError, match=r"is not enrolled.*enrol KIT --repository URL"):
        read_settings(tmp_path)


def test_a_changed_setting_is_checked_too() -> None:
    with pytest.raises(IdentityError, match="ring is ''"):
        changed(Settings(repository="/a"), ring="")
