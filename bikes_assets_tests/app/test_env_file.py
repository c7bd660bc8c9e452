"""The file .env: what people write there are settings; the one line for Dagster's own commands is output."""

from __future__ import annotations

import subprocess

import pytest
from dotenv import dotenv_values
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bikes_assets.app.env_file import read, write_home
from bikes_assets.core.errors import SettingsError

THEIRS = "# mine\nBIKES_ENGINE=duckdb\n\nBIKES_MODEL='{\"seed\": 1}'\n"
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(deadline=None, max_examples=200)
@example("My Projects #1")
@example('it\'s "here"')
@example("$HOME ${HOME} ${X:-y} $(id) `id`")
@example("back\\slash\\")
@example("new\nline\r\n")
@example("größe \u2028 \U0001f6b2")
@example("#")
@example(" ")
@given(NAMES)
def test_any_folder_is_read_back_as_dagster_reads_it(tmp_path_factory, name):
    file = tmp_path_factory.mktemp("root") / ".env"
    file.write_text(THEIRS)
    home = f"/projects/{name}/data/dagster"
    for _ in range(2):
        write_home(file, home)
        assert dotenv_values(file)["DAGSTER_HOME"] == home
        assert read(file) == ({"BIKES_ENGINE": "duckdb", "BIKES_MODEL": '{"seed": 1}'}, home)
    # another home takes its place, and what people wrote stays
    write_home(file, "/elsewhere")
    assert file.read_text().startswith(THEIRS)
    assert file.read_text().count("DAGSTER_HOME=") == 1
    assert read(file)[1] == "/elsewhere"


@pytest.mark.parametrize("name", ["My Projects #1", '$HOME "x" `id` $(id)', "größe"])
def test_a_shell_reads_it_too(tmp_path, name):
    file = tmp_path / ".env"
    write_home(file, f"/projects/{name}")
    told = subprocess.run(["sh", "-c", '. "$0"; printf %s "$DAGSTER_HOME"', file], capture_output=True, text=True)
    assert told.stdout == f"/projects/{name}"


@pytest.mark.parametrize("home", ["/srv/bikes/data/dagster", "/My Projects #1/bikes/data/dagster"])
def test_the_whole_file_of_an_earlier_version_is_output(tmp_path, home):
    file = tmp_path / ".env"
    file.write_text(f"DAGSTER_HOME={home}\n")
    assert read(file)[0] == {}
    write_home(file, "/new/data/dagster")
    assert read(file) == ({}, "/new/data/dagster")


@pytest.mark.parametrize(
    "text",
    [
        "DAGSTER_HOME=/srv/dagster_home\n",
        "BIKES_ENGINE=duckdb\nDAGSTER_HOME=/srv/data/dagster",
        "export DAGSTER_HOME='/srv/x'\n",
        "# Written by hand\nDAGSTER_HOME=/srv/data/dagster\n",
    ],
)
def test_a_line_that_people_wrote_is_theirs_and_stays_alone(tmp_path, text):
    file = tmp_path / ".env"
    file.write_text(text)
    assert read(file)[0]["DAGSTER_HOME"].startswith("/srv")
    write_home(file, "/new/data/dagster")
    assert file.read_text() == text


def test_people_may_add_a_line_of_their_own_to_the_one_that_was_written(tmp_path):
    file = tmp_path / ".env"
    write_home(file, "/data/dagster")
    file.write_text(file.read_text() + "DAGSTER_HOME=/mine\n")
    assert read(file) == ({"DAGSTER_HOME": "/mine"}, "/data/dagster")
    write_home(file, "/new/data/dagster")
    assert read(file) == ({"DAGSTER_HOME": "/mine"}, "")


def test_the_file_keeps_its_mode_and_may_be_a_link_and_is_written_whole(tmp_path):
    (tmp_path / "kept").write_text("BIKES_ENGINE=duckdb")
    (tmp_path / "kept").chmod(0o600)
    (tmp_path / ".env").symlink_to("kept")
    write_home(tmp_path / ".env", "/data/dagster")
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "kept"]
    assert read(tmp_path / ".env") == ({"BIKES_ENGINE": "duckdb"}, "/data/dagster")


def test_where_nothing_can_be_written_nothing_is(tmp_path):
    (tmp_path / "file").touch()
    write_home(tmp_path / "file" / ".env", "/data/dagster")  # no folder
    write_home(tmp_path / ".env", "/\udce4/dagster")  # no text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert read(tmp_path / "none" / ".env") == ({}, "")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    file = tmp_path / ".env"
    file.write_bytes("BIKES_DEPLOYMENT=größe".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"\.env: cannot be read: .*; expected settings in UTF-8"):
        read(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        read(file)
