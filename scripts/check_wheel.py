"""Install the built wheel into an empty environment and check what it brings: three packages, whole, and no more."""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

TOP = {"probes", "circuits", "monitors"}


def main(folder: str) -> None:
    (wheel,) = Path(folder).resolve().glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    top = {name.split("/")[0] for name in names}
    if top != TOP:
        sys.exit(f"{wheel.name}: its top level is {sorted(top)}, not {sorted(TOP)}")
    root = Path(__file__).resolve().parent.parent
    for package in sorted(TOP):
        missing = {
            str(path.relative_to(root))
            for path in (root / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        } - set(names)
        if missing:
            sys.exit(f"{wheel.name} lacks {sorted(missing)}")
    with tempfile.TemporaryDirectory() as temporary:
        venv.create(temporary, with_pip=True)
        python = Path(temporary) / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-c", root / "constraints.txt", wheel], check=True, cwd=temporary)
        subprocess.run(
            [python, "-c", "import probes, circuits, monitors; probes.load_topic('capitals')"],
            check=True,
            cwd=temporary,
        )
        subprocess.run(
            [Path(temporary) / "bin" / "belief", "facts"], check=True, cwd=temporary, stdout=subprocess.DEVNULL
        )
    print(f"{wheel.name}: {len(names)} files, top level {sorted(top)}, installs and runs in an empty environment")


if __name__ == "__main__":
    main(sys.argv[1])
