"""The checks that `make check` adds to the well-known tools find what they are for."""

from pathlib import Path

import pytest

from scripts import check_portable, check_sizes, uv


def function_of(lines: int) -> str:
    return "def much():\n" + "    x = 1\n" * (lines - 1)


def test_a_function_of_50_lines_passes_and_one_of_51_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "module.py"
    module.write_text(function_of(50))
    assert check_sizes.main([str(tmp_path)]) == 0
    module.write_text(function_of(51))
    assert check_sizes.main([str(tmp_path)]) == 1
    assert "module.py:1: `much` has 51 lines, the cap is 50" in capsys.readouterr().out


def test_a_module_of_400_lines_passes_and_one_of_401_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "module.py"
    module.write_text("x = 1\n" * 400)
    assert check_sizes.main([str(tmp_path)]) == 0
    module.write_text("x = 1\n" * 401)
    assert check_sizes.main([str(tmp_path)]) == 1
    assert "module has 401 lines" in capsys.readouterr().out


def test_a_folder_without_modules_does_not_pass_as_checked(tmp_path: Path) -> None:
    assert check_sizes.main([str(tmp_path / "renamed")]) == 1


@pytest.mark.parametrize("host", check_portable.HOSTS)
def test_a_file_that_names_a_registry_is_found(tmp_path: Path, host: str) -> None:
    guilty = tmp_path / "requirements.txt"
    guilty.write_text(f"fine\n--index-url https://{host}/index\n")
    assert list(check_portable.offences(guilty, tmp_path, check_portable.HOSTS)) == [
        f"requirements.txt:2: names `{host}`"
    ]


def test_uv_looks_where_pip_is_told_to_look() -> None:
    environment = uv.uv_environment(
        {"index-url": "https://mirror.test/index", "find-links": "/a /b", "cert": "/ca.pem"}
    )
    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.test/index"
    assert environment["UV_FIND_LINKS"] == "/a,/b"
    assert environment["SSL_CERT_FILE"] == "/ca.pem"


def test_pips_environment_wins_over_its_files_and_install_over_global() -> None:
    listing = "\n".join(
        [
            ":env:.timeout='9'",
            "global.timeout='1'",
            "global.index-url='https://global.test'",
            "install.index-url='https://install.test'",
            "freeze.index-url='https://freeze.test'",
        ]
    )
    assert uv.effective(listing) == {"timeout": "9", "index-url": "https://install.test"}
