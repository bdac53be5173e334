from pathlib import Path

import pytest

from sluicegate.core.errors import ConfigurationError
from sluicegate.settings import CONFIG, MAX_FILE, Settings, load_settings, origin_of


@pytest.fixture(autouse=True)
def _own_environment(home: Path) -> None:
    """No setting comes from outside."""


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "gateway.env"
    monkeypatch.setenv(CONFIG, str(path))
    return path


def problems() -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    return str(refused.value).splitlines()


def test_without_any_setting_the_gateway_listens_on_loopback_with_sqlite() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 4444, None)


def test_the_environment_goes_before_the_file_and_the_file_before_the_defaults(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_file.write_text("# ports\n\nSLUICEGATE_PORT = 5000\nSLUICEGATE_WORKERS='3'\n")
    monkeypatch.setenv("SLUICEGATE_PORT", "6000")
    settings = load_settings()
    assert (settings.port, settings.workers, settings.host) == (6000, 3, "127.0.0.1")
    assert origin_of("port") == "environment"
    assert origin_of("workers") == f"{settings_file}:4"
    assert origin_of("host") == "default"


def test_a_value_in_the_file_may_hold_anything_after_the_first_equals_sign(settings_file: Path) -> None:
    settings_file.write_text('SLUICEGATE_JWT_KEYS={"keys": ["=", "#"]}\n')
    keys = load_settings().jwt_keys
    assert keys is not None
    assert keys.get_secret_value() == '{"keys": ["=", "#"]}'


def test_a_list_is_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_ALLOWED_HOSTS", "a.example, b.example,")
    assert load_settings().allowed_hosts == ("a.example", "b.example")


def test_a_misspelt_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_PROT", "5000")
    assert problems() == ["unknown setting SLUICEGATE_PROT in the environment: did you mean SLUICEGATE_PORT?"]


def test_a_misspelt_name_in_the_file_is_refused_with_its_line(settings_file: Path) -> None:
    settings_file.write_text("\nPORT=5000\n")
    assert problems() == [f"unknown setting PORT in {settings_file}:2: `sluicegate config` lists all of them"]


def test_the_file_cannot_name_another_file(settings_file: Path) -> None:
    settings_file.write_text(f"{CONFIG}=other.env\n")
    assert problems()[0].startswith(f"unknown setting {CONFIG} in {settings_file}:1")


def test_a_name_that_is_in_the_file_twice_is_refused(settings_file: Path) -> None:
    settings_file.write_text("SLUICEGATE_PORT=1\nSLUICEGATE_PORT=2\n")
    assert problems() == [f"SLUICEGATE_PORT is in {settings_file} more than once"]


def test_an_empty_value_is_refused_and_not_taken_for_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_JWT_KEYS", "")
    assert problems() == ["SLUICEGATE_JWT_KEYS in the environment is empty: give it a value, or remove it"]


def test_each_wrong_value_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_PORT", "70000")
    monkeypatch.setenv("SLUICEGATE_WORKERS", "many")
    monkeypatch.setenv("SLUICEGATE_REVOCATION_BOUND", "inf")
    assert problems() == [
        "SLUICEGATE_PORT must be less than or equal to 65535, not `70000`",
        "SLUICEGATE_WORKERS must be a valid integer, not `many`",
        "SLUICEGATE_REVOCATION_BOUND must be a finite number, not `inf`",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"PORT\n", ":1: write a setting as `SLUICEGATE_NAME=value`"),
        (b"\xff\n", "cannot be read: it is not text"),
        (b"#" * (MAX_FILE + 1), f"is larger than {MAX_FILE} bytes"),
    ],
)
def test_a_file_that_is_none_is_refused(settings_file: Path, text: bytes, sentence: str) -> None:
    settings_file.write_bytes(text)
    assert sentence in problems()[0]


def test_a_file_that_is_not_there_is_named(settings_file: Path) -> None:
    assert problems() == [f"settings file `{settings_file}` cannot be read: No such file or directory"]


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
