"""Build sdist and wheel, look into both, and use the wheel in bare environments of several Airflow releases.

Each environment starts with Airflow alone, in the versions that the release came with (``constraints/``). The wheel
with its extra ``oss``, and then its emulator, are installed without any constraint, as a user may do, and must leave
every version that was there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import constraints
from airflow_provider_ims.emulator.oss import LocalOSS

ROOT = Path(__file__).parent.parent
USE = ROOT / "dev" / "use_wheel.py"
UV = [sys.executable, "-m", "uv"]
PACKAGE = "airflow_provider_ims"
RELEASES = ("2.11.0", "3.0.0", "3.1.8", "3.3.2")
"""What is used unless others are asked for. In 3.1.0, ``dag.test()`` takes only DAGs that are in the database."""
NEEDED_IN_WHEEL = ("py.typed", "emulator/README.md")
# What is about this repository, and not about the package or its tests.
NOT_IN_SDIST = (".ci/",)
ADDED_BY_SDIST = {"PKG-INFO"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--airflow", action="append", choices=constraints.RELEASES, help="only this one; may be repeated"
    )
    releases = parser.parse_args().airflow or RELEASES
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        folder = Path(name)
        sdist, wheel = build(folder / "dist")
        check_sdist(sdist)
        check_wheel(wheel)
        for release in releases:
            began = time.monotonic()
            seen = use(wheel, release, folder / release)
            print(f"Airflow {release}: {seen}, after {time.monotonic() - began:.0f} s", flush=True)


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel; hold the description against what a registry's page takes."""
    run(*UV, "build", "--quiet", "--python", sys.executable, "--out-dir", str(folder), str(ROOT))
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    run(*UV, "tool", "run", "--quiet", "twine", "check", "--strict", str(sdist), str(wheel))
    print("twine check --strict: passed")
    return sdist, wheel


def check_sdist(sdist: Path) -> None:
    """All that is in the repository, so that whoever has the sdist can test; and nothing else."""
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()} - ADDED_BY_SDIST
    tracked = {name for name in files_of_repository() if not name.startswith(NOT_IN_SDIST)}
    expect(packed == tracked, f"the sdist differs from the repository: {sorted(packed ^ tracked)}")
    print(f"{sdist.name}: {len(packed)} files, all of the repository but {', '.join(NOT_IN_SDIST)}")


def check_wheel(wheel: Path) -> None:
    """The package with its typing marker, the licence, and neither tests, nor examples, nor guides."""
    packed = set(zipfile.ZipFile(wheel).namelist())
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/"
    package = {name for name in packed if not name.startswith(info)}
    wanted = {name for name in files_of_repository() if name.startswith(f"{PACKAGE}/")}
    expect(package == wanted, f"the wheel differs from the package: {sorted(package ^ wanted)}")
    missing = [name for name in NEEDED_IN_WHEEL if f"{PACKAGE}/{name}" not in packed]
    expect(not missing, f"the wheel lacks {missing}")
    expect(f"{info}licenses/LICENSE" in packed, "the wheel lacks the licence")
    description = zipfile.ZipFile(wheel).read(f"{info}METADATA").decode()
    dead = re.findall(r"\]\((?!https?://)[^)]*\)", description)
    expect(not dead, f"on a registry's page these links lead nowhere: {dead}")
    print(f"{wheel.name}: {len(package)} files of {PACKAGE}, and its licence")


def use(wheel: Path, release: str, folder: Path, python: str = sys.executable) -> dict[str, str]:
    """Install Airflow alone, then the wheel; ask Airflow for what it sees, and delete media.

    Return what each suite of use_wheel.py saw.
    """
    run(*UV, "venv", "--quiet", "--python", python, str(folder))
    installed = str(folder / "bin" / "python")
    install = [*UV, "pip", "install", "--quiet", "--python", installed]
    versions = ["--constraint", str(constraints.path_of(release))]
    run(*install, f"apache-airflow=={release}", *versions)
    before = frozen(installed)
    environment = environment_of(folder / "airflow")
    run(*install, f"{wheel}[oss]")
    seen = {"store": use_store(installed, environment)}
    run(*install, f"{wheel}[emulator,oss]")
    after = frozen(installed)
    changed = {
        name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version
    }
    expect(not changed, f"beside Airflow {release} the wheel changes {changed}")
    run(*UV, "pip", "check", "--python", installed)
    run(*install, "--dry-run", "--reinstall", str(wheel), f"apache-airflow=={release}", *versions)
    print(
        f"Airflow {release}: all {len(before)} versions stay, {len(after) - len(before)} packages are new",
        flush=True,
    )

    home = environment["AIRFLOW_HOME"]
    providers = run(str(folder / "bin" / "airflow"), "providers", "list", env=environment, cwd=Path(home))
    expect("airflow-provider-ims" in providers, f"airflow providers list does not show it:\n{providers}")
    printed = run(installed, str(USE), env=environment, cwd=Path(home))
    return {**json.loads(printed.splitlines()[-1]), **seen}


def use_store(python: str, environment: dict[str, str]) -> str:
    """Run a plain task with ``oss://`` paths where there is nothing but Airflow, the wheel and its extra ``oss``.

    The local OSS that it asks is in this process, from an environment of its own.
    """
    with LocalOSS("team") as oss:
        for number in range(2500):
            oss.put("team", f"base/many/{number}")
        environment = {**environment, "AIRFLOW_CONN_OSS_TEAM": oss.airflow_connection()}
        home = Path(environment["AIRFLOW_HOME"])
        run(python, str(USE), "--only-store", "oss://oss_team@team/base", env=environment, cwd=home)
        operations = {request["operation"] for request in oss.requests}
        expect("UploadPart" in operations and not oss.uploads, f"no file was written in pieces: {operations}")
        return f"{len(oss.requests)} requests"


def environment_of(home: Path) -> dict[str, str]:
    """What a process of a bare Airflow is told; its home is made."""
    home.mkdir()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dev" / "wheel_dags"),
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def frozen(python: str) -> dict[str, str]:
    """Every installed package and its version."""
    lines = run(*UV, "pip", "freeze", "--python", python).split("\n")
    return dict(line.split("==", 1) for line in lines if "==" in line)


def files_of_repository() -> list[str]:
    return run("git", "-C", str(ROOT), "ls-files").split("\n")[:-1]


def run(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=cwd, timeout=900)
    expect(not done.returncode, f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def expect(true: bool, otherwise: str) -> None:
    if not true:
        sys.exit(f"check_wheel: {otherwise}")


if __name__ == "__main__":
    main()
